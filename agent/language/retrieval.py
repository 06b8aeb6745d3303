"""What a sentence may ask for: a distribution over the catalogue, the lexicon and "off topic", from MiniLM embeddings.

Two views are added up as logits: a linear reading (agent/language/reading.py) and the nearest neighbours among the
sentences of each label. Embeddings and weights come with the package (they take a minute to compute); after a change of
the sentences rebuild them with `python -m affordagent.agent.language.retrieval`. Until then they are computed anew at
the first use.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affordagent.agent.language.reading import Reading, fit_reading
from affordagent.core.catalogue import catalogue
from affordagent.core.embedded import MINILM_SHA256, text_encoder
from affordagent.core.lexicon import lexicon
from affordagent.finetune.phrases import phrases

EMBEDDINGS = "phrases.npz"
OFF_TOPIC = "off topic"  # the label of sentences that ask for nothing

NEIGHBOURS = 6
# Weights of the two views. Held-out training phrases ask for softer ones (0.7 and 9), the development phrases for
# sharper ones (1 and 20); these lie between.
READING_WEIGHT = 0.8
NEIGHBOUR_WEIGHT = 12.0

# Categories that have phrases but no place in the catalogue, and the thing of the lexicon that serves the same end.
_SAME_THING = {
    "tumbler": "glass",
    "pitcher": "jug",
    "tape roll": "tape",
    "spray bottle": "plant sprayer",
    "table tennis racket": "racket",
}
_OFF_TOPIC_SENTENCES = (
    "what time is it",
    "turn off the lights",
    "tell me a joke",
    "play some music",
    "how is the weather today",
    "who won the match yesterday",
    "set an alarm for seven",
    "how are you doing",
    "what is your name",
    "I went to the cinema last night",
    "my grandmother lives in Rome",
    "the meeting starts at noon",
    "what do you think about politics",
    "call my mother",
    "open the window please",
    "clean the floor",
    "come over here",
    "that was a nice movie",
    "what is this tool used for",
    "who invented the telephone",
    "the capital of France is Paris",
    "I am tired and want to sleep",
    "book me a flight",
    "where did I park the car",
    "charge your battery",
    "I like your new colour",
)


@dataclass(frozen=True)
class Index:
    """embeddings: (N, 384) unit rows; rows: which of them belong to each label; reading: the linear view."""

    embeddings: NDArray[np.float32]
    rows: dict[str, NDArray[np.int64]]
    reading: Reading


def labels() -> tuple[str, ...]:
    """Everything a sentence may mean: categories, things, OFF_TOPIC."""
    return (*catalogue(), *lexicon(), OFF_TOPIC)


def sentences() -> dict[str, tuple[str, ...]]:
    """The sentences of the index and what each may mean; descriptions of the catalogue ("mug: ...") come last."""
    pairs = [(text, _SAME_THING.get(name, name)) for name, texts in phrases()["train"].items() for text in texts]
    pairs += [(text, thing.name) for thing in lexicon().values() for text in thing.uses]
    pairs += [(text, OFF_TOPIC) for text in _OFF_TOPIC_SENTENCES]
    pairs += [(f"{c.name}: {text}", c.name) for c in catalogue().values() for text in c.description[:-1]]
    meanings: dict[str, tuple[str, ...]] = {}
    for text, label in pairs:
        if label in _known_labels():
            meanings[text] = tuple(dict.fromkeys((*meanings.get(text, ()), label)))
    return meanings


@cache
def _known_labels() -> frozenset[str]:
    return frozenset(labels())


@cache
def index() -> Index:
    """The packaged embeddings and weights if they belong to today's sentences and encoder, else fresh ones."""
    meanings = sentences()
    rows: dict[str, list[int]] = {label: [] for label in labels()}
    for row, names in enumerate(meanings.values()):
        for name in names:
            rows[name].append(row)
    belongs = {label: np.array(found) for label, found in rows.items()}
    path = files("affordagent.agent.language").joinpath(EMBEDDINGS)
    if path.is_file():
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["digest"]) == _digest(meanings):
                reading = Reading(stored["weights"].astype(np.float32), stored["bias"].astype(np.float32))
                return Index(stored["embeddings"].astype(np.float32), belongs, reading)
    return Index(*_computed(meanings, belongs))


def write_embeddings(path: Path) -> None:
    """Compute embeddings and weights and store them (float16) with the digest of their sentences."""
    meanings = sentences()
    belongs = {label: np.flatnonzero([label in names for names in meanings.values()]) for label in labels()}
    embeddings, _, reading = _computed(meanings, belongs)
    np.savez_compressed(
        path,
        embeddings=embeddings.astype(np.float16),
        weights=reading.weights.astype(np.float16),
        bias=reading.bias.astype(np.float16),
        digest=np.array(_digest(meanings)),
    )


def _computed(
    meanings: dict[str, tuple[str, ...]], rows: dict[str, NDArray[np.int64]]
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]], Reading]:
    embeddings = text_encoder().sentences(list(meanings))
    shares = np.zeros((len(meanings), len(rows)), np.float32)
    for column, found in enumerate(rows.values()):
        shares[found, column] = 1
    shares /= shares.sum(1, keepdims=True)
    names = text_encoder().sentences([f"the {label}" for label in rows])
    names[-1] = names[:-1].mean(0)  # OFF_TOPIC has no name
    return embeddings, rows, fit_reading(embeddings, shares, names)


def _digest(meanings: dict[str, tuple[str, ...]]) -> str:
    return hashlib.sha256(json.dumps([MINILM_SHA256, labels(), list(meanings.items())]).encode()).hexdigest()


def neighbour_scores(text: str) -> dict[str, float]:
    """Similarity of the text to each label, in [-1, 1]: the mean of its `NEIGHBOURS` best sentences there."""
    similarity = index().embeddings @ text_encoder().sentences([text])[0]  # (N,)
    return {
        label: float(np.sort(similarity[rows])[-NEIGHBOURS:].mean()) if len(rows) else -1.0
        for label, rows in index().rows.items()
    }


def probabilities(text: str) -> dict[str, float]:
    """Of every label, best first; they add up to 1."""
    near = np.array(list(neighbour_scores(text).values()))
    logits = READING_WEIGHT * index().reading.logits(text_encoder().sentences([text]))[0] + NEIGHBOUR_WEIGHT * near
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    return dict(sorted(zip(labels(), shares.tolist(), strict=True), key=lambda pair: -pair[1]))


if __name__ == "__main__":
    write_embeddings(Path(__file__).with_name(EMBEDDINGS))
