"""The thing that something is to be put into, onto or beside, among what stands on the table.

Boxes, trays and the like are found by their shape: they are open above. Other things are asked of the grounding tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, transform_points
from affordagent.core.types import (
    Candidate,
    Destination,
    FunctionalQuery,
    Mask,
    ObjectProposal,
    PartMask,
    RgbdFrame,
    TableScene,
)
from affordagent.tools.attributes import attribute_factors
from affordagent.tools.depth_projection import flying
from affordagent.tools.landing import Opening, opening_of
from affordagent.tools.tabletop import TabletopTool, dimensions_of

DEEP_WORDS = frozenset("box bin crate container basket tub bucket carton case toolbox drawer".split())
FLAT_WORDS = frozenset(["tray", "baking tray", "platter"])
FLAT_M = 0.042  # rims up to here are those of trays
RECTANGULAR = 0.86  # share of the rectangle round the rim that a box's or a tray's opening fills; a pan's is 0.79
LEAST_M2 = 0.01  # smaller openings are no boxes
OWN_SHARE = 0.3  # of a proposal under the object's mask: it is the object
CLEARLY = 1.5  # one of several counts as meant when it fits the words so many times better than the next
BARE_M = 0.008  # heights within this are the table itself


@dataclass(frozen=True)
class _Container:
    proposal: ObjectProposal
    opening: Opening


def base_points(frame: RgbdFrame, mask: Mask) -> Array:
    """(N, 3) what was seen under a mask, base frame."""
    assert frame.T_base_camera is not None
    seen = mask & (frame.depth_m > 0) & ~flying(frame.depth_m)
    return transform_points(frame.T_base_camera, frame.camera.back_project(frame.depth_m)[seen])


def bare_table(frame: RgbdFrame, scene: TableScene) -> Array:
    """(N, 3) where the table itself was seen, base frame."""
    standing = np.logical_or.reduce([np.zeros(scene.height_m.shape, bool), *(p.mask for p in scene.proposals)])
    return base_points(frame, (np.abs(np.nan_to_num(scene.height_m, nan=1.0)) < BARE_M) & ~standing)


def is_container(destination: Destination) -> bool:
    """Is it called a box, a tray or the like, which its shape tells?"""
    return _noun(destination) in DEEP_WORDS | FLAT_WORDS


def find_container(
    frame: RgbdFrame, scene: TableScene, destination: Destination, own: Mask, table_z_m: float
) -> PartMask | None:
    """The open thing that the words mean; None where nothing open stands there.

    own: (H, W) of the object, which is not its own destination.

    Raises:
        StageFailure: ("ground", "grounding.ambiguous"): several fit the words.
    """
    containers = _containers(frame, scene, own, table_z_m)
    if is_container(destination):
        containers = [c for c in containers if _looks_like(_noun(destination), c.opening, table_z_m)]
    if not containers:
        return None
    scores = _scores(frame, scene, destination, [c.proposal for c in containers])
    order = np.argsort(-scores)
    best = containers[order[0]]
    facts = [_facts(containers[i], float(scores[i])) for i in order]
    if len(order) > 1 and scores[order[0]] < CLEARLY * scores[order[1]]:
        raise StageFailure(
            "ground",
            "grounding.ambiguous",
            f"{len(order)} things could be the {destination.words}: say its colour, or where it is",
            considered=facts,
        )
    return PartMask(best.proposal.mask, best.proposal.mask, 1.0, "open shape", {"considered": facts})


def query_of(destination: Destination) -> FunctionalQuery:
    """The question for a grounding tool: where is this thing?"""
    known = destination.category is not None
    name = destination.category or _noun(destination)
    return FunctionalQuery(
        text=f"the {destination.words}",
        intent="pick",
        category=destination.category,
        candidates=[Candidate(name=name, score=0.95, known=known)],
        object_words=_noun(destination),
        attributes=destination.attributes,
    )


def not_own(parts: Sequence[PartMask], own: Mask) -> PartMask | None:
    """The best mask that is not of the object itself."""
    return next((p for p in parts if p.object_mask.any() and not _is_own(p.object_mask, own)), None)


def _containers(frame: RgbdFrame, scene: TableScene, own: Mask, table_z_m: float) -> list[_Container]:
    others = [p for p in scene.proposals if not _is_own(p.mask, own)]
    found = ((p, opening_of(base_points(frame, p.mask), table_z_m)) for p in others)
    return [_Container(p, opening) for p, opening in found if opening is not None]


def _scores(frame: RgbdFrame, scene: TableScene, destination: Destination, proposals: list[ObjectProposal]) -> Array:
    """(P,) how well each fits the words: by colour, size and place for boxes; otherwise by its looks too."""
    dimensions_m = dimensions_of(frame, TableScene(scene.plane_camera, scene.height_m, proposals))
    rivals = np.ones(len(proposals), bool)
    factors, _ = attribute_factors(frame, proposals, dimensions_m, rivals, destination.attributes)
    if is_container(destination):
        return factors
    parts = TabletopTool().find(frame, TableScene(scene.plane_camera, scene.height_m, proposals), query_of(destination))
    sure = {p.evidence["proposal"]: p.confidence for p in parts}
    return np.array([sure[p.id] for p in proposals])


def _looks_like(noun: str, opening: Opening, table_z_m: float) -> bool:
    flat = opening.rim_z_m - table_z_m < FLAT_M
    return opening.rectangular > RECTANGULAR and opening.area_m2 > LEAST_M2 and flat == (noun in FLAT_WORDS)


def _facts(container: _Container, score: float) -> dict[str, Any]:
    opening = container.opening
    return {
        "proposal": container.proposal.id,
        "opening_m2": round(opening.area_m2, 4),
        "rim_z_m": round(opening.rim_z_m, 4),
        "floor_z_m": round(opening.floor_z_m, 4),
        "rectangular": round(opening.rectangular, 2),
        "fits": round(score, 3),
    }


def _is_own(mask: Mask, own: Mask) -> bool:
    return bool((mask & own).sum() > OWN_SHARE * min(mask.sum(), max(own.sum(), 1)))


def _noun(destination: Destination) -> str:
    """The words without colours and the like: what they leave out is in the attributes."""
    stated = set(destination.attributes.values()) | {"gray"}
    kept = [w for w in destination.words.split() if w not in stated]
    return " ".join(kept) or destination.words
