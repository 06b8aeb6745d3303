"""What things are for, in pieces that a grammar puts together: deeds, states of affairs, traits, plans, cares.

`uses.json` has them for the categories of the catalogue; for the things of the lexicon the deeds are its uses, and for
anything else they come from a definition ("... used for driving nails"). In a piece [a|b] stands for a choice, <...>
marks what the deed is done to, and + a second verb.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from affordagent.core.catalogue import catalogue
from affordagent.core.lexicon import lexicon

Room = Literal["kitchen", "table", "workshop", "home"]

_USED = re.compile(
    r"\b(?:(?:is |are )?(?:used|useful|intended|designed|made|served?) )?"
    r"(?:(?P<for>for) (?P<doing>[a-z]+ing\b[^;()]*)|(?:used|useful|intended|designed|serves) to (?P<do>[a-z][^;()]*))"
)


@dataclass(frozen=True)
class Uses:
    """deeds: what one does with it, verb first ("whip <the cream> until stiff"). states: why it is wanted ("the egg
    whites are still runny"). traits: what follows "the thing" ("with a bundle of wires"). plans: what one is about
    ("baking a cake"). care: how the deed is done ("without leaving lumps"). hold: how the thing is held."""

    names: tuple[str, ...]
    deeds: tuple[str, ...]
    states: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    care: tuple[str, ...] = ()
    hold: str = "around its middle"
    room: Room = "home"


@cache
def uses_of(category: str, definition: str | None = None) -> Uses | None:
    """What is known of a thing; None when nothing is.

    definition: of a dictionary, read where the name is in neither the catalogue nor the lexicon.
    """
    if category in catalogue():
        known = catalogue()[category]
        pieces: dict[str, Any] = {
            name: tuple(texts) if isinstance(texts, list) else texts for name, texts in _table()[category].items()
        }
        return Uses(names=known.names, hold=_hold(known.part), **pieces)
    if category in lexicon():
        thing = lexicon()[category]
        deeds = tuple(text[0].lower() + text[1:].rstrip(".") for text in thing.uses)
        return Uses(names=thing.names, deeds=deeds, hold=_hold(thing.part))
    deeds = tuple(_deeds_in(definition or ""))
    return Uses(names=(category,), deeds=deeds) if deeds else None


@cache
def _table() -> dict[str, dict[str, Any]]:
    path = files("affordagent.finetune.data.instructions").joinpath("uses.json")
    return json.loads(path.read_text(encoding="utf-8"))


def _hold(part: str | None) -> str:
    return f"by its {part}" if part else "around its middle"


def _deeds_in(definition: str) -> list[str]:
    """ "a tool used to drive nails" -> ["drive nails"], "for cutting wood" -> ["get on with cutting wood"]."""
    found = []
    for match in _USED.finditer(definition):
        deed = match["do"] or f"get on with {match['doing']}"
        found.append(deed.strip(" ,."))
    return found
