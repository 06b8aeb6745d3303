"""Which of some given things serves a command: for things that are at hand, whatever they are called."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from affordagent.agent.language.knowledge import served
from affordagent.agent.language.names import mentions
from affordagent.agent.language.retrieval import neighbour_scores
from affordagent.agent.language.understand import content_words, understand
from affordagent.agent.language.words import tokens

# Of a known thing's own sentences, where the wish is more than a deed ("something to cut"): a bare deed is nearer to
# the things that sentences happen to be about. Chosen on development phrases and the lexicon's uses.
USES = 14.0
NAMED = 100.0  # added to the score of a thing that the command calls by its name


_ASKING = re.compile(
    r"^(?:(?:please|can you|could you|would you) )*(?:hand|give|pass|bring|get|fetch|find)"
    r" (?:(?:me|us|over) )?(?=some|any|a )"
)


def rank(text: str, names: list[str]) -> list[tuple[str, float]]:
    """(name, score) best first; scores are comparable within one call only.

    A name counts by what WordNet says of it and, if it is a known thing's ("chips can" is a "can") and the wish says
    more than a verb, by that thing's uses. What the command names outright comes first.

    Raises:
        StageFailure, Refused: see `understand`.
    """
    query = understand(text)
    wish = _ASKING.sub("", query.function or query.text.lower()).strip(" .!?")  # "something to cut"
    labels = [_label(name) for name in names]
    scores: NDArray[np.floating] = served(wish, names)
    if len(content_words(tokens(wish))) > 1:
        scores = scores + USES * _uses(wish, labels)
    if query.object_words is not None:
        asked = _label(query.object_words)
        named = [query.object_words in n or (k is not None and k == asked) for n, k in zip(names, labels, strict=True)]
        scores = scores + NAMED * np.array(named)
    order = np.argsort(-scores, kind="stable")
    return [(names[i], float(scores[i])) for i in order]


def _uses(wish: str, labels: list[str | None]) -> NDArray[np.float64]:
    """(N,) how near the wish is to each thing's own sentences, about the mean; 0 for things that have none."""
    near = neighbour_scores(wish)
    found = np.array([near[label] if label else np.nan for label in labels])
    return np.nan_to_num(found - np.nanmean(found)) if np.isfinite(found).any() else np.zeros(len(labels))


def _label(name: str) -> str | None:
    """The category or the thing of the lexicon that a name belongs to."""
    found = mentions(["the", *tokens(name)])
    return max(found[-1].categories, key=lambda c: found[-1].categories[c]) if found else None
