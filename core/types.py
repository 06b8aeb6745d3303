"""The types that flow between the stages. Arrays are numpy; frames and units are in the names (see geometry)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.geometry import Array, check_rigid, invert

Mask = NDArray[np.bool_]

STAGES = ("understand", "look", "ground", "lift", "propose", "plan", "confirm", "execute", "verify")
OUTCOMES = ("success", "failure", "refused", "needs_clarification", "planned")
OutcomeName = Literal["success", "failure", "refused", "needs_clarification", "planned"]
StageStatus = Literal["ok", "failed", "refused", "needs_clarification"]
Intent = Literal["pick", "hand_over", "place", "question", "stop", "refer_back", "none"]


class Candidate(BaseModel):
    """One thing the command may mean."""

    model_config = ConfigDict(frozen=True)
    name: str
    score: float = Field(ge=0.0, le=1.0)
    known: bool = Field(description="True for a category of the catalogue, False for the person's own words")


class Destination(BaseModel):
    """Where the person wants the thing put: `relation` to the thing that `words` name; "back" = where it was taken
    from, words "table". attributes as in the query."""

    model_config = ConfigDict(frozen=True)
    relation: Literal["in", "on", "beside", "back"]
    words: str = Field(description="the person's words, e.g. 'grey box'; 'table' = anywhere free on the table")
    category: str | None = Field(default=None, description="known category, null when it is unknown")
    attributes: dict[str, str] = Field(default_factory=dict)

    @property
    def place(self) -> str:
        """For a person: "next to the grey box"."""
        if self.relation == "back":
            return "back where it was"
        return f"{'next to' if self.relation == 'beside' else self.relation} the {self.words}"


class FunctionalQuery(BaseModel):
    """What the person wants, in the terms of the tools. Frozen: later stages read, never write it."""

    model_config = ConfigDict(frozen=True)
    text: str
    intent: Intent
    category: str | None = Field(
        default=None, description="best known category, null when none is meant or it is unknown"
    )
    candidates: list[Candidate] = Field(default_factory=list, description="ranked, best first")
    object_words: str | None = Field(default=None, description="the object in the person's own words, e.g. 'kettle'")
    function: str | None = Field(default=None, description="what it is to be used for, in the person's words")
    part: str | None = Field(default=None, description="part to hold, e.g. 'handle'; null = the whole object will do")
    attributes: dict[str, str] = Field(default_factory=dict, description="colour, size, position, material")
    constraints: list[str] = Field(
        default_factory=list,
        description="e.g. 'hot', 'full', 'fragile', 'sharp'; 'handle_free' = leave the handle to the person",
    )
    destination: Destination | None = Field(default=None, description="of a place motion; null otherwise")
    at_m: tuple[float, float, float] | None = Field(
        default=None, description="the thing that is meant stands here: a point of it, base frame; from the talk before"
    )
    not_at_m: list[tuple[float, float, float]] = Field(
        default_factory=list, description="points of things that are not meant, base frame: 'the other one'"
    )
    needs_clarification: bool = False
    question: str | None = None
    read_by: dict[str, Any] = Field(
        default_factory=dict,
        description="how the text was read: by which model, with which prompt, why not by it; empty = offline",
    )

    @property
    def wants_motion(self) -> bool:
        return self.intent in ("pick", "hand_over", "place")


@dataclass(frozen=True)
class RgbdFrame:
    """One look of an RGB-D camera.

    color: (H, W, 3) uint8 RGB. depth_m: (H, W) float32 metres along the optical axis, 0 = no reading.
    T_base_camera: (4, 4) or None when the mounting is not known. stamp_s: POSIX seconds.

    Raises:
        ValueError: sizes that do not agree, a depth that is negative or not finite, a pose that is not rigid.
    """

    color: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    camera: CameraIntrinsics
    T_base_camera: Array | None = None
    stamp_s: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        if self.color.shape != (*size, 3) or self.color.dtype != np.uint8:
            raise ValueError(f"color is {self.color.shape} {self.color.dtype}, the camera says {(*size, 3)} uint8")
        if self.depth_m.shape != size:
            raise ValueError(f"depth is {self.depth_m.shape}, color is {size}: align depth to color first")
        if not np.isfinite(self.depth_m).all() or (self.depth_m < 0).any():
            raise ValueError("depth holds NaN, infinite or negative values; use 0 where there is no reading")
        if self.T_base_camera is not None:
            check_rigid(self.T_base_camera, "T_base_camera")


@dataclass(frozen=True)
class ObjectProposal:
    """A thing on the table, found without knowing what it is. mask: (H, W) bool; box: x0, y0, x1, y1 (x1, y1 past
    the end), pixels; merged/split doubts are left to the scorer."""

    id: int
    mask: Mask
    box: tuple[int, int, int, int]


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 (past the end) of a mask that is not empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class TableScene:
    """The support plane and what stands on it.

    plane_camera: (4,) n, d with n . p + d = height above the table in metres for camera-frame points p.
    height_m: (H, W) float32 height above the plane, NaN where there is no depth.
    """

    plane_camera: Array
    height_m: NDArray[np.float32]
    proposals: list[ObjectProposal]


@dataclass(frozen=True)
class PartMask:
    """The part to hold, as pixels. mask, object_mask: (H, W) bool. confidence in [0, 1]: probability that this is the
    right object and part. tool: who made it. evidence: small JSON-able facts (scores of all proposals, reasons).
    presence in [0, 1]: probability that what is wished for is in the picture at all; None where the tool cannot tell
    this from being right."""

    mask: Mask
    object_mask: Mask
    confidence: float
    tool: str
    evidence: dict[str, Any] = field(default_factory=dict)
    presence: float | None = None

    @property
    def is_there(self) -> float:
        """The presence, or the confidence in its stead."""
        return self.confidence if self.presence is None else self.presence


@dataclass(frozen=True)
class PaintedMask:
    """The part to hold as a person marked it, and the picture it was marked on. mask: (H, W) bool, of its size.

    Raises:
        ValueError: sizes that differ, another dtype, or a mask that is empty.
    """

    mask: Mask
    frame: RgbdFrame

    def __post_init__(self) -> None:
        if self.mask.shape != self.frame.depth_m.shape or self.mask.dtype != np.bool_:
            raise ValueError(
                f"the mask is {self.mask.shape} {self.mask.dtype}, its picture {self.frame.depth_m.shape}: give a bool "
                "for each pixel"
            )
        if not self.mask.any():
            raise ValueError("nothing is marked: mark the part to hold")


@dataclass(frozen=True)
class PartCloud:
    """The part and its surroundings in 3D, all in the base frame, metres.

    part: (N, 3) points of the part. part_normals: (N, 3) unit, towards the camera. object: (M, 3) points of the whole
    object (the part among them). obstacles: (K, 3) everything else that was seen above the table, the table excluded.
    table_z_m: height of the table under the object. camera_position: (3,). valid_fraction: share of the mask's pixels
    that had a depth. filled_fraction: share of them that had none and were filled in from their surroundings.
    table_fraction: share of the depths under the mask that are the table's and were left out.
    """

    part: Array
    part_normals: Array
    object: Array
    obstacles: Array
    table_z_m: float
    camera_position: Array
    valid_fraction: float
    filled_fraction: float = 0.0
    table_fraction: float = 0.0


@dataclass(frozen=True)
class Grasp:
    """A parallel-jaw grasp. T_base_tcp: see geometry for the tcp axes. width_m: distance of the contacts (the opening
    needed is a little more). score in [0, 1]; terms: the parts of the score, each in [0, 1]."""

    T_base_tcp: Array
    width_m: float
    score: float
    terms: dict[str, float] = field(default_factory=dict)

    def as_json(self, T_base_camera: Array) -> dict[str, Any]:
        """The record of `grasps.json`: the pose in both frames (row-major 4x4), width, score and its terms."""
        return {
            "T_base_tcp": np.round(self.T_base_tcp, 6).tolist(),
            "T_camera_tcp": np.round(invert(T_base_camera) @ self.T_base_tcp, 6).tolist(),
            "width_m": round(float(self.width_m), 5),
            "score": round(float(self.score), 5),
            "terms": {name: round(float(value), 5) for name, value in self.terms.items()},
        }


@dataclass(frozen=True, eq=False)
class GraspSet(Sequence[Grasp]):
    """Grasps of one gripper on one part, best first; a sequence of `Grasp`.

    T_base_tcp: (G, 4, 4), the tcp of that gripper (see geometry). width_m, score: (G,), as in `Grasp`. terms: name ->
    (G,) in [0, 1], the parts of the score. gripper: its name. backend: who proposed them.
    """

    T_base_tcp: Array
    width_m: Array
    score: Array
    terms: dict[str, Array] = field(default_factory=dict)
    gripper: str = "Robotiq 2F-85"
    backend: str = ""

    def __len__(self) -> int:
        return len(self.T_base_tcp)

    @overload
    def __getitem__(self, i: int) -> Grasp: ...

    @overload
    def __getitem__(self, i: slice) -> GraspSet: ...

    def __getitem__(self, i: int | slice) -> Grasp | GraspSet:
        if isinstance(i, slice):
            return self.take(range(*i.indices(len(self))))
        terms = {name: float(values[i]) for name, values in self.terms.items()}
        return Grasp(self.T_base_tcp[i], float(self.width_m[i]), float(self.score[i]), terms)

    @staticmethod
    def of(grasps: Sequence[Grasp], gripper: str = "Robotiq 2F-85", backend: str = "") -> GraspSet:
        """Single grasps as a set; the terms that all of them have."""
        names = [name for name in (grasps[0].terms if grasps else ()) if all(name in g.terms for g in grasps)]
        return GraspSet(
            np.array([g.T_base_tcp for g in grasps]).reshape(-1, 4, 4),
            np.array([g.width_m for g in grasps], float),
            np.array([g.score for g in grasps], float),
            {name: np.array([g.terms[name] for g in grasps], float) for name in names},
            gripper,
            backend,
        )

    def take(self, index: NDArray[np.bool_] | NDArray[np.int_] | Sequence[int]) -> GraspSet:
        """The grasps of an index or a mask, in its order."""
        at = np.asarray(index) if len(index) else np.zeros(0, int)
        return replace(
            self,
            T_base_tcp=self.T_base_tcp[at],
            width_m=self.width_m[at],
            score=self.score[at],
            terms={name: values[at] for name, values in self.terms.items()},
        )


@dataclass(frozen=True)
class JointTrajectory:
    """positions: (N, 6) rad, times_s: (N,) from 0, strictly rising."""

    positions: Array
    times_s: Array

    @property
    def duration_s(self) -> float:
        return float(self.times_s[-1])


DeliveryKind = Literal["place", "hand_over"]


@dataclass(frozen=True)
class DeliveryGoal:
    """Where what is held may go, whatever grasp holds it.

    moves: (P, 4, 4) rigid motions of the object in the base frame, p_there = move @ p_now, best first, for "now" being
    where it was seen. inside: (K, 3) base-frame points of the destination that a placed object may come near.
    """

    kind: DeliveryKind
    moves: Array
    inside: Array


@dataclass(frozen=True)
class Delivery:
    """What follows the lift.

    T_base_tcp: where the hand lets go. move_index: the row of `DeliveryGoal.moves`. carry: free path with the object in
    the hand, to above the place or to where it is presented. lower: straight down to the place; None for a hand-over.
    retreat: straight, away from the object, the hand open. opening_m: how far it opens to let go.
    """

    kind: DeliveryKind
    T_base_tcp: Array
    move_index: int
    carry: JointTrajectory
    lower: JointTrajectory | None
    retreat: JointTrajectory
    opening_m: float


@dataclass(frozen=True)
class GraspPlan:
    """A collision-checked motion for one grasp: free path to the pre-grasp, straight approach, straight lift.

    opening_m: how far the fingers open before the approach. rejected: the better-ranked grasps that could not be
    planned, each {"grasp_index", "code", "message"}. delivery: what follows the lift; None = lift and hold.
    """

    grasp: Grasp
    grasp_index: int
    opening_m: float
    to_pregrasp: JointTrajectory
    approach: JointTrajectory
    lift: JointTrajectory
    rejected: list[dict[str, Any]] = field(
        default_factory=list
    )  # {"grasp_index", "code", "message"} of those tried before
    delivery: Delivery | None = None


@dataclass(frozen=True)
class Verdict:
    """Was the job done? checks: name -> passed; measured: name -> number; by: "simulator" or "sensors"."""

    success: bool
    code: str | None
    checks: dict[str, bool]
    measured: dict[str, float]
    by: str


@dataclass(frozen=True)
class StageRecord:
    """What one stage did: a line of the run's `events.jsonl` and of `--json`'s `stages`."""

    stage: str
    status: StageStatus
    code: str | None
    duration_s: float
    cpu_s: float
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class VlmAnswer:
    """What an AffordanceVLM in the published format says about one picture.

    text: the answer with its [AFF] and [SEG] tokens. output_ids: (T,) int64, prompt and answer, the picture as one
    -200. mask_logits: (n, H, W) float32 at the picture's size, one for each [SEG] or [AFF] in order of appearance,
    positive on the mask. timings_s: by step.
    """

    text: str
    output_ids: NDArray[np.int64]
    mask_logits: NDArray[np.float32]
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def masks(self) -> Mask:
        """(n, H, W) bool."""
        return self.mask_logits > 0
