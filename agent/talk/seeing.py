"""What stands on the table, by name and with how sure that is, from one picture; nothing is told that is not in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from affordagent.core.catalogue import catalogue
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import FunctionalQuery, PartMask, RgbdFrame, TableScene
from affordagent.graphs.referents import choices_of, colour_of
from affordagent.graphs.state import Grounder
from affordagent.tools.affordance_vlm import AffordanceTool
from affordagent.tools.second_opinion import Opinion, decide, opinion_of
from affordagent.tools.tabletop import object_posterior
from affordagent.tools.vocabulary import wish_of

# Logistic weights of 1, the log-odds of the network's best name, and the log of what ImageNet and the size grant that
# name: fitted on 302 things of 60 development scenes (seeds 300 to 309 of six kinds of scene), 40 of them of kinds that
# no name of the catalogue fits. By themselves the networks are as sure of a name for those.
NAME_SURE = (0.28, 1.29, 0.95)
SURE = 0.8  # from which a thing is called by its name without more ado
UNSURE = 0.4  # below which no name is given


@dataclass(frozen=True)
class Seen:
    """A thing in the picture. name: the likeliest of the catalogue's; sure: that it is right, 0 to 1. colour: None
    where none stands out. at_m: (3,) a point of it, base frame; box: x0, y0, x1, y1, pixels."""

    name: str
    sure: float
    colour: str | None
    at_m: tuple[float, float, float]
    box: tuple[int, int, int, int]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name if self.sure >= UNSURE else None,
            "sure": round(self.sure, 2),
            "colour": self.colour,
            "at_m": list(self.at_m),
            "box": list(self.box),
        }


def seen_things(tool: AffordanceTool, frame: RgbdFrame, scene: TableScene) -> list[Seen]:
    """All things in the picture, from left to right. frame: with its T_base_camera."""
    proposals = sorted(scene.proposals, key=lambda p: p.box[0] + p.box[2])
    if not proposals:
        return []
    look = tool.look(frame, TableScene(scene.plane_camera, scene.height_m, proposals))
    names = list(catalogue())
    logits = tool.predictor.compare(look.features, [f"the {name}" for name in names])
    best = logits.argmax(1)
    anything = wish_of(FunctionalQuery(text="", intent="none", category=names[0]))
    known, all_names = object_posterior(look.classes_of(range(len(proposals))), look.dimensions_m, anything)
    by_looks = known[np.arange(len(best)), [all_names.index(names[i]) for i in best]]
    sure = _sure(logits.max(1), by_looks)
    points = [choice.at_m for choice in choices_of(frame, proposals)]
    return [
        Seen(names[i], float(p), colour_of(frame, thing), at_m, thing.box)
        for i, p, thing, at_m in zip(best, sure, proposals, points, strict=True)
    ]


def _sure(level: Array, by_looks: Array) -> Array:
    bias, network, looks = NAME_SURE
    return np.asarray(1 / (1 + np.exp(-(bias + network * np.clip(level, -9.2, 9.2) + looks * np.log(by_looks + 1e-4)))))


def said_of_things(things: list[Seen], when: str = "") -> str:
    """ "I see 3 things, from left to right: a mug (97 %); ...". when: the picture is of, goes before it."""
    if not things:
        return f"{when}I see nothing on the table."
    named = [_named(thing) for thing in things]
    count = "one thing" if len(things) == 1 else f"{len(things)} things, from left to right"
    return f"{when}I see {count}: {'; '.join(named)}."


def _named(thing: Seen) -> str:
    if thing.sure < UNSURE:
        said = f"{thing.colour or ''} thing".strip()
        return f"{'an' if said[0] in 'aeiou' else 'a'} {said} that I have no name for"
    said = f"{thing.colour or ''} {thing.name}".strip()
    like = "" if thing.sure >= SURE else "perhaps "
    return f"{like}{'an' if said[0] in 'aeiou' else 'a'} {said} ({100 * thing.sure:.0f} %)"


@dataclass(frozen=True)
class Sought:
    """The answer to "is there a mug?". part: None where there is none; why: in a sentence."""

    part: PartMask | None
    confidence: float
    presence: float
    why: str


def sought(
    tools: tuple[Grounder, Grounder],
    frame: RgbdFrame,
    scene: TableScene,
    query: FunctionalQuery,
    sure_above: float,
    present_above: float,
) -> Sought:
    """Look for a thing in a picture as a run would. tools: the grounder, and who is asked where it is in doubt."""
    first = _opinion(tools[0], frame, scene, query)
    second = None
    if first is None or first.doubts(sure_above):
        if first is not None and first.surely_absent(present_above):
            return Sought(None, first.confidence, first.presence, "")
        second = _opinion(tools[1], frame, scene, query)
        decision = decide(first, second, sure_above, present_above)
        return Sought(decision.part, decision.confidence, decision.presence, decision.says)
    return Sought(first.part, first.confidence, first.presence, "")


def _opinion(tool: Grounder, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> Opinion | None:
    try:
        found = [part for part in tool.find(frame, scene, query) if part.mask.any()]
    except StageFailure as failure:
        if not failure.code.startswith("grounding."):
            raise
        return None
    return opinion_of(found[0], frame, scene, query) if found else None


def label_of(frame: RgbdFrame, scene: TableScene, part: PartMask) -> str:
    """Which of the things a mask is on: "the orange one, on the left"; empty where it is on none of them."""
    shares = [int((p.mask & part.object_mask).sum()) for p in scene.proposals]
    if not shares or not max(shares):
        return ""
    return choices_of(frame, scene.proposals)[int(np.argmax(shares))].label
