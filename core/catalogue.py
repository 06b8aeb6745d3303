"""The household categories the system knows: what they are called, what they are for, and by which part they are held.

The first 17 are HANDAL's (Guo et al., "HANDAL: A Dataset of Real-World Manipulable Object Categories", IROS 2023),
under their exact names.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field


class Category(BaseModel):
    """One kind of thing.

    part: the part to hold, or None when the thing is held anywhere around its body.
    names: words that mean this category and no other, the plainest first; plurals are left to the reader of texts.
    generic: words that may mean this category or another ("wrench"), with a weight in (0, 1].
    description: sentences on what it is, what it is for, how it is held.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    part: str | None
    names: tuple[str, ...] = Field(min_length=1)
    generic: dict[str, float]
    description: tuple[str, ...] = Field(min_length=2)
    safe_part_note: str


@cache
def catalogue() -> dict[str, Category]:
    """Category by name, in the order of the file. Shared by all callers: treat it as read-only."""
    raw = json.loads(files("affordagent.core").joinpath("catalogue.json").read_text(encoding="utf-8"))
    return {name: Category(name=name, **fields) for name, fields in raw.items()}
