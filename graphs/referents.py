"""Which of several things: those that the talk before has left in the race, and when to ask which one is meant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from affordagent.core.errors import NeedsClarification, StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import FunctionalQuery, ObjectProposal, PartMask, RgbdFrame, TableScene
from affordagent.tools.attributes import HUES, colour_share
from affordagent.tools.destination import base_points

SAME_PLACE_M = 0.03  # a point so near to a thing, seen from above, is a point of it
COLOURED = 0.35  # share of its pixels from which a thing is called by that colour
MOST_CHOICES = 4
TOLD_APART = 0.7  # share from which a thing is a rival although the person said a colour, a size or a side
MOSTLY = 0.5  # share of an answer's object from which it is a thing that is out of the race


@dataclass(frozen=True)
class Choice:
    """A thing that may be meant. label: for a person, "the one on the left". at_m: (3,) a point of it, base frame. box:
    x0, y0, x1, y1 in the picture."""

    label: str
    at_m: tuple[float, float, float]
    box: tuple[int, int, int, int]


def left_in_the_race(frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> TableScene:
    """The scene without the things that the talk before has ruled out.

    Raises:
        StageFailure: ("ground", "grounding.not_found"): nothing is left.
    """
    if query.at_m is None and not query.not_at_m:
        return scene
    away = {p.id: base_points(frame, p.mask) for p in scene.proposals}
    kept = [p for p in scene.proposals if not any(_is_at(away[p.id], at) for at in query.not_at_m)]
    if query.at_m is not None:
        kept = sorted(kept, key=lambda p: _distance_m(away[p.id], query.at_m))[:1]
        kept = [p for p in kept if _is_at(away[p.id], query.at_m)]
    if not kept:
        where = "where you chose it" if query.at_m is not None else "besides what you ruled out"
        raise StageFailure("ground", "grounding.not_found", f"I see nothing {where}: put it into view, and ask again")
    return replace(scene, proposals=kept)


def is_ruled_out(part: PartMask, scene: TableScene, kept: TableScene) -> bool:
    """Is the answer of a tool, which need not keep to what is left, a thing that is out of the race?"""
    ids = {p.id for p in kept.proposals}
    out = [p.mask for p in scene.proposals if p.id not in ids]
    size = max(int(part.object_mask.sum()), 1)
    return any(int((mask & part.object_mask).sum()) > MOSTLY * size for mask in out)


def ask_which(
    frame: RgbdFrame, scene: TableScene, query: FunctionalQuery, part: PartMask, rival_share: float | None
) -> None:
    """Ask when other things fit the words nearly as well. rival_share: of the best one's score; None = never ask.

    Raises:
        NeedsClarification: ("ground", "grounding.which"), its evidence holds the question and the choices.
    """
    if rival_share is None or query.at_m is not None:
        return
    rivals = rivals_of(part, scene, share_to_ask(rival_share, bool(query.attributes)))
    if not rivals:
        return
    choices = choices_of(frame, [_own(part, scene), *rivals][:MOST_CHOICES])
    thing = query.object_words or query.category or "thing"
    labels = [choice.label for choice in choices]
    question = f"I see {len(choices)} that could be the {thing}: {', '.join(labels[:-1])} or {labels[-1]}. Which one?"
    plain: list[dict[str, Any]] = [
        {"label": choice.label, "at_m": list(choice.at_m), "box": list(choice.box)} for choice in choices
    ]
    raise NeedsClarification("ground", "grounding.which", question, question=question, choices=plain)


def share_to_ask(rival_share: float, told_apart: bool) -> float:
    """The share from which another thing is asked about. told_apart: the person has said a colour, a size or a side."""
    return max(rival_share, TOLD_APART) if told_apart else rival_share


def rivals_of(part: PartMask, scene: TableScene, rival_share: float) -> list[ObjectProposal]:
    """The other things whose score is at least `rival_share` of the answer's, best first; by the scores of all
    proposals in its evidence, where the tool gives them."""
    scores = {int(name): float(value) for name, value in (part.evidence.get("shares") or {}).items()}
    own = part.evidence.get("proposal")
    if own not in scores:
        return []
    near = [p for p in scene.proposals if p.id != own and scores.get(p.id, 0.0) >= rival_share * scores[own]]
    return sorted(near, key=lambda p: -scores[p.id])


def choices_of(frame: RgbdFrame, things: list[ObjectProposal]) -> list[Choice]:
    """Each with a label of its own: by colour where the colours differ, else by place, from left to right."""
    colours = [colour_of(frame, p) for p in things]
    places = _places([(p.box[0] + p.box[2]) / 2 for p in things])
    by_colour = None not in colours and len(set(colours)) == len(colours)
    found = []
    for thing, colour, place in zip(things, colours, places, strict=True):
        x, y, z = np.median(base_points(frame, thing.mask), axis=0)
        label = f"the {colour} one, {place}" if by_colour else f"the one {place}"
        found.append(Choice(label, (float(x), float(y), float(z)), thing.box))
    return found


def _places(middles: list[float]) -> list[str]:
    order = np.argsort(middles).tolist()
    names = {
        1: ["on the table"],
        2: ["on the left", "on the right"],
        3: ["on the left", "in the middle", "on the right"],
    }
    said = names.get(len(middles)) or [f"{_ordinal(number)} from the left" for number in range(1, len(middles) + 1)]
    places = [""] * len(middles)
    for place, index in zip(said, order, strict=True):
        places[index] = place
    return places


def _ordinal(number: int) -> str:
    words = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"]
    return words[number - 1] if number <= len(words) else f"number {number}"


def colour_of(frame: RgbdFrame, thing: ObjectProposal) -> str | None:
    """The colour word that a person would call it by, None where none stands out."""
    words = [*HUES, "brown", "black", "white", "grey"]
    shares = [(colour_share(frame.color, thing.mask, word) or 0.0, word) for word in words]
    share, word = max(shares)
    return word if share >= COLOURED else None


def _own(part: PartMask, scene: TableScene) -> ObjectProposal:
    return next(p for p in scene.proposals if p.id == part.evidence["proposal"])


def _is_at(points: Array, at_m: tuple[float, float, float]) -> bool:
    return _distance_m(points, at_m) < SAME_PLACE_M


def _distance_m(points: Array, at_m: tuple[float, float, float] | None) -> float:
    """From above: what was lifted and put back may stand a little higher or lower."""
    if not len(points) or at_m is None:
        return float("inf")
    return float(np.linalg.norm(points[:, :2] - np.array(at_m[:2]), axis=1).min())
