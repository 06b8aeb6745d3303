"""Household things outside the catalogue: what they are called, what they are for, how large they are.

Written from general knowledge, for texts and sizes only: the system has not learned to recognise these things.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field

Range = tuple[float, float]


class Thing(BaseModel):
    """One kind of thing a person may ask for.

    part: the part to hold, or None when the thing is held anywhere around its body.
    names: what people call it, the plainest first; plurals are left to the reader of texts.
    uses: what a person wants it for, without naming it.
    sizes_m: poses in which it stands or lies: ranges of footprint length, footprint width, height, metres.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    part: str | None
    names: tuple[str, ...] = Field(min_length=1)
    uses: tuple[str, str, str]
    sizes_m: tuple[tuple[Range, Range, Range], ...] = Field(min_length=1)


@cache
def lexicon() -> dict[str, Thing]:
    """Thing by name, in the order of the file; no name or synonym is one of the catalogue's. Treat it as read-only."""
    raw = json.loads(files("affordagent.core").joinpath("lexicon.json").read_text(encoding="utf-8"))
    return {name: Thing(name=name, **fields) for name, fields in raw.items()}
