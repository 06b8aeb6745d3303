"""Faults of language, depth, calibration and grounding: wrong queries, frames and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array, rigid
from affordagent.core.overlap import overlap
from affordagent.core.types import Candidate, FunctionalQuery, GraspPlan, Mask, PartMask, RgbdFrame, Verdict
from affordagent.evaluations.causes.injection import Change, Injection, Spoiler, afterwards, noted
from affordagent.evaluations.mask_faults import end_of, warped
from affordagent.graphs.state import Done, GraspState, Stage, Workbench
from affordagent.robot.interface import Arm, Cell
from affordagent.robot.sim.scene import PlacedObject
from affordagent.robot.sim.sensor import NO_NOISE

HOLE_MARGIN_PX = 3


# ---- language -------------------------------------------------------------------------------------------------------


def _query_of(thing: PlacedObject, query: FunctionalQuery) -> FunctionalQuery:
    """As if the person had named this thing."""
    changes: dict[str, Any] = {
        "text": f"pick up the {thing.category}",
        "category": thing.category,
        "object_words": thing.category,
        "candidates": [Candidate(name=thing.category, score=1.0, known=True)],
        "part": None if thing.obj.part == "body" else thing.obj.part,
        "function": None,
        "attributes": {},
    }
    return query.model_copy(update=changes)


def misread_category(injection: Injection, bench: Workbench) -> dict[str, Any]:
    """Another thing of the scene is understood, of another kind."""
    kinds = [thing for thing in injection.others if thing.category != injection.target.category]
    thing = _any(injection, kinds, "other kinds of things")
    bench.store.put("query", _query_of(thing, bench.store.get("query")))
    return {"category": thing.category}


def misread_part(injection: Injection, bench: Workbench) -> dict[str, Any]:
    """Another part of the right thing is understood."""
    query = bench.store.get("query")
    part = _any(injection, other_parts(injection), "other parts")
    bench.store.put("query", query.model_copy(update={"part": part}))
    return {"part": part, "instead_of": query.part}


def misread_colour(injection: Injection, bench: Workbench) -> dict[str, Any]:
    """Its twin is understood."""
    twin = _any(injection, twins(injection), "twins")
    query = bench.store.get("query")
    text = f"pick up the {twin.obj.colour} {twin.category}"
    changes = {"text": text, "attributes": {"colour": twin.obj.colour}}
    bench.store.put("query", query.model_copy(update=changes))
    return {"colour": twin.obj.colour}


def other_parts(injection: Injection) -> list[str]:
    """Labelled parts of the target that would be wrong to hold."""
    part = injection.gold.part
    return [] if part is None else [other for other in injection.target.obj.parts if other != part]


def twins(injection: Injection) -> list[PlacedObject]:
    return [thing for thing in injection.others if thing.category == injection.target.category]


def _any(injection: Injection, choices: list[Any], what: str) -> Any:
    if not choices:
        thing = injection.target.name
        raise AffordAgentError(f"the fault '{injection.fault.name}' needs {what}, and {thing} has none: see `applies`")
    return choices[int(injection.rng().integers(len(choices)))]


# ---- depth and calibration ------------------------------------------------------------------------------------------

Look = Callable[[Injection, RgbdFrame], tuple[RgbdFrame, dict[str, Any]]]


@dataclass(frozen=True)
class _Spoiled:
    """A cell whose camera has a fault; all else is the cell's."""

    cell: Cell
    spoil: Callable[[RgbdFrame], RgbdFrame]

    @property
    def name(self) -> str:
        return self.cell.name

    @property
    def is_hardware(self) -> bool:
        return self.cell.is_hardware

    @property
    def arm(self) -> Arm | None:
        return self.cell.arm

    def look(self) -> RgbdFrame:
        return self.spoil(self.cell.look())

    def look_again(self) -> RgbdFrame:
        return self.cell.look_again()

    def __enter__(self) -> Cell:
        return self.cell.__enter__()

    def __exit__(self, *exc: object) -> None:
        self.cell.__exit__(*exc)

    def judge(
        self, plan: GraspPlan, object_mask: Mask, query: FunctionalQuery, destination_mask: Mask | None = None
    ) -> Verdict | None:
        return self.cell.judge(plan, object_mask, query, destination_mask)

    def save_video(self, path: Path) -> None:
        self.cell.save_video(path)


def looking(look: Look) -> Spoiler:
    """The usual stage, by a camera whose frames `look` spoils."""

    def spoil(injection: Injection, usual: Stage) -> Stage:
        def stage(bench: Workbench, state: GraspState) -> Done:
            effects: list[dict[str, Any]] = []

            def spoiled(frame: RgbdFrame) -> RgbdFrame:
                spoilt, effect = look(injection, frame)
                effects.append(effect)
                return spoilt

            done = usual(replace(bench, cell=_Spoiled(bench.cell, spoiled)), state)
            return noted(done, injection.record(**effects[-1]))

        return stage

    return spoil


def depth_noise(injection: Injection, frame: RgbdFrame) -> tuple[RgbdFrame, dict[str, Any]]:
    """Noise of this standard deviation on the target, half of it shared by neighbours, growing with the distance."""
    there_m = float(np.median(frame.depth_m[_target_mask(injection) & (frame.depth_m > 0)]))
    noise = replace(NO_NOISE, axial_per_m=injection.size / there_m**2, correlation_px=2.0)
    _, depth_m = noise.apply(frame.color, frame.depth_m, frame.camera.fx, injection.rng())
    return _measured(injection, frame, depth_m)


def depth_hole(injection: Injection, frame: RgbdFrame) -> tuple[RgbdFrame, dict[str, Any]]:
    """No reading on this share of the part, from one of its ends, and 3 px around it."""
    part = injection.seen(injection.target.name).part_mask
    near = cv2.dilate(end_of(part, injection.size).astype(np.uint8), np.ones((2 * HOLE_MARGIN_PX + 1,) * 2, np.uint8))
    return _measured(injection, frame, np.where(near > 0, np.float32(0), frame.depth_m))


def depth_offset(injection: Injection, frame: RgbdFrame) -> tuple[RgbdFrame, dict[str, Any]]:
    """The target reads too far away, as glass does."""
    further = frame.depth_m + np.float32(injection.size)
    there = _target_mask(injection) & (frame.depth_m > 0)
    return _measured(injection, frame, np.where(there, further, frame.depth_m))


def depth_shifted(injection: Injection, frame: RgbdFrame) -> tuple[RgbdFrame, dict[str, Any]]:
    """The depth picture lies so many pixels beside the colour picture."""
    dx, dy = injection.size * _direction(injection, 2)
    size = (frame.depth_m.shape[1], frame.depth_m.shape[0])
    move = np.array([[1, 0, dx], [0, 1, dy]])
    depth_m = cv2.warpAffine(frame.depth_m, move, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return _measured(injection, frame, depth_m)


def _measured(injection: Injection, frame: RgbdFrame, depth_m: NDArray[Any]) -> tuple[RgbdFrame, dict[str, Any]]:
    """The frame with this depth, and how far off the depth of the target is."""
    spoilt = replace(frame, depth_m=depth_m.astype(np.float32))
    there = _target_mask(injection) & (frame.depth_m > 0)
    read = there & (spoilt.depth_m > 0)
    off_m = spoilt.depth_m[read] - frame.depth_m[read]
    rms_m = float(np.sqrt(np.mean(np.square(off_m)))) if read.any() else None
    return spoilt, {"rms_m": rms_m, "lost": float(1 - read.sum() / max(there.sum(), 1))}


def hand_eye(injection: Injection, frame: RgbdFrame) -> tuple[RgbdFrame, dict[str, Any]]:
    """The camera is thought to be so many metres from where it is."""
    return _mounted(frame, rigid(np.eye(3), injection.size * _direction(injection, 3)))


def hand_eye_turned(injection: Injection, frame: RgbdFrame) -> tuple[RgbdFrame, dict[str, Any]]:
    """The camera is thought to look so many degrees beside where it looks."""
    assert frame.T_base_camera is not None
    turn = Rotation.from_rotvec(np.deg2rad(injection.size) * _direction(injection, 3)).as_matrix()
    at = frame.T_base_camera[:3, 3]
    return _mounted(frame, rigid(turn, at - turn @ at))


def sunk(injection: Injection, frame: RgbdFrame) -> tuple[RgbdFrame, dict[str, Any]]:
    """The camera has sunk by so many metres since it was calibrated."""
    return _mounted(frame, rigid(np.eye(3), [0.0, 0.0, injection.size]))


def _mounted(frame: RgbdFrame, T_thought_base: Array) -> tuple[RgbdFrame, dict[str, Any]]:
    assert frame.T_base_camera is not None
    return replace(frame, T_base_camera=T_thought_base @ frame.T_base_camera), {"T_thought_base": T_thought_base}


def _direction(injection: Injection, dimensions: int) -> Array:
    vector = injection.rng().normal(size=dimensions)
    return vector / np.linalg.norm(vector)


def _target_mask(injection: Injection) -> Mask:
    return injection.seen(injection.target.name).mask


# ---- grounding ------------------------------------------------------------------------------------------------------

Remask = Callable[[Injection, Workbench, PartMask], PartMask]


def masking(remask: Remask) -> Spoiler:
    """The usual stage, and then another mask where it took one."""

    def change(injection: Injection, bench: Workbench) -> dict[str, Any]:
        part = bench.store.get("part_mask")
        spoilt = remask(injection, bench, part)
        bench.store.put("part_mask", spoilt)
        return {"iou": overlap(part.mask, spoilt.mask).iou, "px": int(spoilt.mask.sum())}

    return _once_grounded(change)


def _once_grounded(change: Change) -> Spoiler:
    """After `ground` where it is sure, after `ground_again` always."""

    def spoil(injection: Injection, usual: Stage) -> Stage:
        spoiled = afterwards(change)

        def stage(bench: Workbench, state: GraspState) -> Done:
            done = usual(bench, state)
            if done.update.get("grounding", "sure") != "sure":
                return done
            return spoiled(injection, lambda bench, state: done)(bench, state)

        return stage

    return spoil


def shifted(injection: Injection, bench: Workbench, part: PartMask) -> PartMask:
    """Both masks lie so many metres beside the thing, along the table."""
    frame = bench.store.get("frame")
    readings = frame.depth_m[part.object_mask & (frame.depth_m > 0)]
    shift_px = injection.size * frame.camera.fx / float(np.median(readings))
    dx, dy = shift_px * _direction(injection, 2)
    move = np.array([[1, 0, dx], [0, 1, dy]])
    return replace(part, mask=warped(part.mask, move), object_mask=warped(part.object_mask, move))


def wrong_object(injection: Injection, bench: Workbench, part: PartMask) -> PartMask:
    """The right part of another thing."""
    thing = injection.seen(_any(injection, _in_view(injection, injection.others), "other things in view").name)
    return replace(part, mask=thing.part_mask, object_mask=thing.mask)


def wrong_instance(injection: Injection, bench: Workbench, part: PartMask) -> PartMask:
    """The right part of its twin."""
    thing = injection.seen(_any(injection, _in_view(injection, twins(injection)), "twins in view").name)
    return replace(part, mask=thing.part_mask, object_mask=thing.mask)


def wrong_part(injection: Injection, bench: Workbench, part: PartMask) -> PartMask:
    """All of the right thing but the part."""
    thing = injection.seen(injection.target.name)
    return replace(part, mask=thing.mask & ~thing.part_mask, object_mask=thing.mask)


def under_segmented(injection: Injection, bench: Workbench, part: PartMask) -> PartMask:
    """The mask takes in the whole thing, and its nearest neighbour."""
    thing = injection.seen(injection.target.name)
    away_px = cv2.distanceTransform((~thing.mask).astype(np.uint8), cv2.DIST_L2, 5)
    near = [injection.seen(other.name).mask for other in _in_view(injection, injection.others)]
    if not near:
        return replace(part, mask=thing.mask, object_mask=thing.mask)
    both = thing.mask | min(near, key=lambda mask: float(away_px[mask].min()))
    return replace(part, mask=both, object_mask=both)


def over_segmented(injection: Injection, bench: Workbench, part: PartMask) -> PartMask:
    """Only this share of the part, at one of its ends, and the object's mask ends there too."""
    fragment = end_of(part.mask, injection.size)
    return replace(part, mask=fragment, object_mask=fragment)


def blank(injection: Injection, bench: Workbench, part: PartMask) -> PartMask:
    return replace(part, mask=np.zeros_like(part.mask), object_mask=np.zeros_like(part.mask))


def _in_view(injection: Injection, things: list[PlacedObject]) -> list[PlacedObject]:
    names = {thing.name for thing in injection.cell.truth() if thing.part_mask.any()}
    return [thing for thing in things if thing.name in names]
