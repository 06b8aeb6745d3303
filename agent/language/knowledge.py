"""What things are for, from WordNet: how well a thing, by its name, serves a deed that nobody wrote sentences about.

A score adds up how near the deed is to the thing's name, to its definition and to what kinds of thing it is ("a
container"), as MiniLM reads them; how near a name is to any deed whatever is taken out first. The weights are fitted to
the lexicon's uses and the catalogue's descriptions (see agent/language/wordnet.py, which makes the table).

The table is derived from WordNet 3.0, Copyright 2006 by Princeton University; its licence is in WORDNET_LICENCE.txt.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from affordagent.core.embedded import text_encoder

TABLE = "knowledge.npz"
Vectors = NDArray[np.float32]  # (N, 384)


@dataclass(frozen=True)
class Knowledge:
    """rows: noun -> row of `meanings`. meanings: (N, 384), what WordNet says of it, weighted. any_deed: (384,) mean
    embedding of many deeds. name_weight: of the name itself; meaning_weight: what `meanings` weigh together."""

    rows: dict[str, int]
    meanings: Vectors
    any_deed: Vectors
    name_weight: float
    meaning_weight: float

    def row_of(self, name: str) -> int | None:
        """The row of a name, or of its last words ("tuna fish can" -> "can"); None when WordNet knows none of them."""
        words = name.lower().split()
        for start in range(len(words)):
            rest = " ".join(words[start:])
            for form in (rest, rest.removesuffix("s"), rest.removesuffix("es")):
                if form in self.rows:
                    return self.rows[form]
        return None


@cache
def knowledge() -> Knowledge:
    with files("affordagent.agent.language").joinpath(TABLE).open("rb") as file, np.load(file) as stored:
        nouns = bytes(stored["nouns"]).decode().split("\n")
        return Knowledge(
            rows=dict(zip(nouns, stored["rows"].tolist(), strict=True)),
            meanings=stored["meanings"].astype(np.float32) * stored["scales"][:, None],
            any_deed=stored["any_deed"],
            name_weight=float(stored["weights"][0]),
            meaning_weight=float(stored["weights"][1:].sum()),
        )


def served(wish: str, names: list[str]) -> Vectors:
    """(N,) how well the things serve a wish such as "something to cut": log-odds among them, up to a constant."""
    known, encoder = knowledge(), text_encoder()
    deed = encoder.sentences([wish])[0] - known.any_deed
    own = encoder.sentences([f"a {name}" for name in names])
    rows = [known.row_of(name) for name in names]
    meant = np.stack(
        [
            known.meaning_weight * vector if row is None else known.meanings[row]
            for row, vector in zip(rows, own, strict=True)
        ]
    )
    return (known.name_weight * own + meant) @ deed
