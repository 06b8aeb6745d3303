"""Which of some given things serves a command: for things that are at hand, whatever they are called."""

from __future__ import annotations

import re

from affordagent.agent.language.names import mentions
from affordagent.agent.language.retrieval import neighbour_scores
from affordagent.agent.language.understand import understand
from affordagent.agent.language.words import tokens
from affordagent.core.embedded import text_encoder

USES = 0.7  # weight of a known category's uses against the likeness of the name; chosen on development data
NAMED = 1.0  # added to the score of a thing that the command calls by its name


_ASKING = re.compile(
    r"^(?:(?:please|can you|could you|would you) )*(?:hand|give|pass|bring|get|fetch|find)"
    r" (?:(?:me|us|over) )?(?=some|any|a )"
)


def rank(text: str, names: list[str]) -> list[tuple[str, float]]:
    """(name, score) best first; scores are comparable within one call only.

    A name counts by its likeness to the command and, if it belongs to a known category ("chips can" to "can"), by that
    category's uses. What the command names outright comes first.

    Raises:
        StageFailure, Refused: see `understand`.
    """
    query = understand(text)
    wish = _ASKING.sub("", query.function or query.text)  # "something to cut", without "hand me"
    encoder = text_encoder()
    direct = encoder.sentences([f"a {name}" for name in names]) @ encoder.sentences([wish])[0]  # (N,)
    uses = neighbour_scores(wish)
    scored = []
    for name, likeness in zip(names, direct.tolist(), strict=True):
        category = _category(name)
        score = (1 - USES) * likeness + USES * (uses[category] if category else likeness)
        named = query.object_words is not None and (
            query.object_words in name or (category is not None and category == query.category)
        )
        scored.append((name, score + (NAMED if named else 0.0)))
    return sorted(scored, key=lambda pair: -pair[1])


def _category(name: str) -> str | None:
    """The category of the catalogue that a thing's name belongs to."""
    found = [m for m in mentions(["the", *tokens(name)]) if m.known]
    return max(found[-1].categories, key=lambda c: found[-1].categories[c]) if found else None
