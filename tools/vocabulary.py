"""The things we have words for, and what a query wants of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from affordagent.core.catalogue import catalogue
from affordagent.core.geometry import Array
from affordagent.core.lexicon import lexicon
from affordagent.core.types import FunctionalQuery

LEAST_CANDIDATE = 0.01


@cache
def known_things() -> dict[str, tuple[str, ...]]:
    """Thing -> the words for it: the catalogue's categories, then the lexicon's things."""
    ours = {name: tuple(dict.fromkeys((*entry.names, *entry.generic))) for name, entry in catalogue().items()}
    return ours | {name: thing.names for name, thing in lexicon().items() if name not in ours}


@dataclass(frozen=True)
class Wish:
    """What the thing may be: names, best first, and their weights (N,), which add up to 1. A name may be outside
    `known_things`: the person's own noun, or the whole text where there is no noun."""

    names: tuple[str, ...]
    weights: Array


def wish_of(query: FunctionalQuery) -> Wish:
    """The candidates; without any, the category, the person's noun, or the whole text."""
    scored = [(c.name, c.score) for c in query.candidates if c.score >= LEAST_CANDIDATE]
    if not scored:
        scored = [(query.category or query.object_words or query.text, 1.0)]
    weights = np.array([score for _, score in scored])
    return Wish(tuple(name for name, _ in scored), weights / weights.sum())
