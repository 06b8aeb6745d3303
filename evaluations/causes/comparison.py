"""Each stage's output against the truth: was it right, given nothing but the command and the world?

What is compared, and from where on it counts as wrong, is in `TOLERANCE`; docs/attribution.md says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.causes import CAUSES
from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.types import FunctionalQuery, Grasp, GraspPlan, Mask
from affordagent.evaluations.causes.oracles import Oracles
from affordagent.evaluations.causes.truth import Truth, iou
from affordagent.evaluations.grasp_truth import TrueSurfaces
from affordagent.evaluations.plan_replay import Replay
from affordagent.graphs.attribution import Replayed, output_of_grounding
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.kinematics import chain_of
from affordagent.robot.motion_rules import START_TOLERANCE_RAD
from affordagent.robot.sim.bodies import quaternion
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import LIFTED_M
from affordagent.tools import handle_free


@dataclass(frozen=True)
class Tolerance:
    """depth_m: median departure of the part's depth; depth_p90_m: of nine tenths of it. lost: share of its readings. A
    RealSense's usual noise stays below all three. camera_m: how far the target seems from where it is. tcp_m, goal_m:
    of the hand from where it is thought to be, and of the plan's end from the grasp. iou: of the part's mask. touch_m:
    depth of a contact."""

    depth_m: float = 0.0025
    depth_p90_m: float = 0.007
    lost: float = 0.35
    camera_m: float = 0.002
    tcp_m: float = 0.003
    goal_m: float = 0.002
    iou: float = 0.6
    touch_m: float = 0.002


TOLERANCE = Tolerance()
BY_ARM = tuple(
    f"execution.{name}"
    for name in ("stopped", "gripper", "timeout", "comms", "program", "safety_fault", "power_off")
    + ("protective_stop", "safeguard_stop", "emergency_stop", "local_control", "hand_full", "interrupted")
)


@dataclass(frozen=True)
class Finding:
    """right: None where the comparison cannot tell, or the run did not get there (reached False)."""

    cause: str
    right: bool | None
    reached: bool = True
    measures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run(Replayed):
    """T_base_tcp: (4, 4) where the hand truly was before the approach; None where it did not get there."""

    T_base_tcp: Array | None = None

    @classmethod
    def of(cls, replayed: Replayed, cell: SimCell) -> Run:
        """Of the replay that the cell has just made."""
        fields = {field.name: getattr(replayed, field.name) for field in dataclass_fields(Replayed)}
        log = cell.arm.log
        return cls(**fields, T_base_tcp=log["to_pregrasp"].T_base_body["tcp"] if "to_pregrasp" in log else None)


@dataclass(frozen=True)
class Judge:
    """Compares a run in a simulated cell with the truth."""

    cell: SimCell
    truth: Truth
    oracles: Oracles
    tolerance: Tolerance = TOLERANCE

    def findings(self, run: Run) -> dict[str, Finding]:
        """By cause, in the order of the pipeline."""
        compared: dict[str, Callable[[Run], Finding]] = {
            "language": self.language,
            "depth": self.depth,
            "calibration": self.calibration,
            "grounding": self.grounding,
            "grasp": self.grasp,
            "planning": self.planning,
            "execution": self.execution,
        }
        return {cause: compared[cause](run) for cause in CAUSES}

    # ---- what is seen and understood --------------------------------------------------------------------------------

    def language(self, run: Run) -> Finding:
        """Does the query name the gold and its part; was there a question or a refusal just where one was due?"""
        ended = run.outcome if not run.reached("look") else "went on"
        expected = self.truth.expected
        measures: dict[str, Any] = {"expected": expected, "outcome": ended}
        if expected != "grasp":
            return Finding(
                "language", ended == {"ask": "needs_clarification", "refuse": "refused"}[expected], measures=measures
            )
        if ended != "went on":
            return Finding("language", False, measures=measures)
        query: FunctionalQuery = run.store.get("query")
        measures |= self._fit(query)
        right = all(measures[f"{name}_right"] for name in ("category", "colour", "part", "motion"))
        return Finding("language", right, measures=measures)

    def _fit(self, query: FunctionalQuery) -> dict[str, bool]:
        gold = self.truth.gold
        assert gold is not None
        meant = self.truth.meant_by(query)
        names = {thing.name for thing in meant}
        kinds = {self.truth.scene.object(name).category for name in gold.objects}
        placed = {"position", "size"} & query.attributes.keys()  # which of the twins is left to grounding
        colour_right = bool(names & gold.objects) and (names <= gold.objects or bool(placed))
        category_right = bool(meant) and meant[0].category in kinds
        part_right = gold.part is None or query.part == gold.part or handle_free.is_wanted(query)
        return {
            "category_right": category_right,
            "colour_right": colour_right or not category_right,
            "part_right": part_right,
            "motion_right": not self.truth.is_nowhere(query.destination),
        }

    def depth(self, run: Run) -> Finding:
        """The depth on the part that is asked for."""
        there = self._region(run)
        if not run.store.has("frame"):
            return Finding("depth", False if run.reached("look") else None, run.reached("look"))
        if there is None:
            return Finding("depth", None)
        seen, true = run.store.get("frame").depth_m, self.truth.depth_m
        read = there & (seen > 0) & (true > 0)
        lost = 1 - float((there & (seen > 0)).sum() / max(int(there.sum()), 1))
        off_m = (seen - true)[read]
        median_m, p90_m = np.quantile(np.abs(off_m), [0.5, 0.9]) if read.any() else (np.inf, np.inf)
        limit = self.tolerance
        right = bool(median_m <= limit.depth_m and p90_m <= limit.depth_p90_m and lost <= limit.lost)
        measures: dict[str, Any] = {"median_m": float(median_m), "p90_m": float(p90_m), "lost": lost}
        if not right and read.any():
            measures |= {"further_m": float(np.median(off_m)), "aside_px": _aside_px(seen, true)}
        return Finding("depth", right, measures=measures)

    def _region(self, run: Run) -> Mask | None:
        """The part that the gold means, or else the query."""
        gold, truth = self.truth.gold, self.truth
        query = run.store.get("query") if run.store.has("query") else None
        thing = None if query is None else truth.target_of(query)
        name = min(gold.objects) if gold is not None else None if thing is None else thing.name
        if thing is not None and gold is not None and thing.name in gold.objects:
            name = thing.name
        if name is None:
            return None
        return truth.mask(name, truth.scene.object(name).obj.part)

    def calibration(self, run: Run) -> Finding:
        """Where the camera's pose shows the things, and where the hand is before it approaches."""
        if not run.store.has("frame"):
            return Finding("calibration", None, run.reached("look"))
        T_base_camera = run.store.get("frame").T_base_camera
        if T_base_camera is None:
            return Finding("calibration", False)
        points = np.array([T[:3, 3] for T in self.truth.T_base_object.values()])
        moved = transform_points(self.truth.believed(T_base_camera), points) - points
        measures = {"camera_off_m": float(np.linalg.norm(moved, axis=1).max(initial=0.0))}
        right = measures["camera_off_m"] <= self.tolerance.camera_m
        if run.T_base_tcp is not None:
            thought = _tcp(run.store.get("plan").to_pregrasp.positions[-1])
            measures["tcp_off_m"] = float(np.linalg.norm((run.T_base_tcp - thought)[:3, 3]))
            right = right and measures["tcp_off_m"] <= self.tolerance.tcp_m
        return Finding("calibration", right, measures=measures)

    def grounding(self, run: Run) -> Finding:
        """The mask against that of what the query asks for; and the destination, where there is one."""
        if not run.reached("ground"):
            return Finding("grounding", None, False)
        query: FunctionalQuery = run.store.get("query")
        wanted = self.oracles.true_mask(query)
        if not run.store.has("part_mask"):
            return Finding("grounding", wanted is None, measures={"wanted": wanted is not None})
        part, thing = output_of_grounding(run.store), self.truth.target_of(query)
        if wanted is None or thing is None:
            return Finding("grounding", None, measures={"wanted": False})
        aimed_at = self.truth.aimed_at(part.object_mask)
        other = None if aimed_at is None else self.truth.scene.object(aimed_at)
        common = int((part.mask & wanted.mask).sum())
        measures = {
            "object_right": aimed_at == thing.name,
            "same_category": other is not None and other.category == thing.category,
            "px": int(part.mask.sum()),
            "iou": iou(part.mask, wanted.mask),
            "precision": common / max(int(part.mask.sum()), 1),
            "recall": common / max(int(wanted.mask.sum()), 1),
        }
        right = measures["object_right"] and measures["iou"] >= self.tolerance.iou
        measures["destination_right"] = self._destination_right(run, query)
        return Finding("grounding", bool(right and measures["destination_right"]), measures=measures)

    def _destination_right(self, run: Run, query: FunctionalQuery) -> bool:
        """Right too where there is none, or none that the truth knows."""
        true = self.oracles.true_destination(query)
        if true is None:
            return True
        found = run.store.get("destination").object_mask if run.store.has("destination") else None
        return found is not None and self.truth.aimed_at(found) == self.truth.aimed_at(true)

    # ---- what is planned and done -----------------------------------------------------------------------------------

    def grasp(self, run: Run) -> Finding:
        """Does the chosen grasp hold what the mask marks, by the hand alone? Not known where it did not in the run."""
        if not run.reached("propose"):
            return Finding("grasp", None, False)
        if not run.store.has("plan"):
            none = not run.store.has("grasps") or (run.code or "").startswith("grasp.")
            return Finding("grasp", False if none else None, measures={"planned": False})
        grasp = run.store.get("plan").grasp
        part, believed = run.store.get("part_mask"), self._believed(run)
        name = self.truth.aimed_at(part.object_mask)
        if name is None:
            return Finding("grasp", None, measures={"aimed_at": None})
        label = None if handle_free.is_free(part) else self.truth.part_under(name, part.mask)
        if self.oracles.holds(name, label, _moved(grasp, invert(believed))):
            right = True if run.failure is None else None  # carried out by the arm it may hold less well
            return Finding("grasp", right, measures={"aimed_at": name})
        own = label or self.truth.scene.object(name).obj.part
        reasons = [self._surfaces.judge(_moved(g, invert(believed)), name, own) for g in run.store.get("grasps")[0]]
        geometry = self._surfaces.judge(_moved(grasp, invert(believed)), name, own)
        better = 0 if geometry == "valid" else reasons.count("valid")
        return Finding("grasp", False, measures={"aimed_at": name, "geometry": geometry, "better": better})

    def planning(self, run: Run) -> Finding:
        """Does the plan start at the arm, lead to its grasp and up again, and touch nothing among the true shapes? And
        may it be sent at all?"""
        if not run.reached("plan"):
            return Finding("planning", None, False)
        if not run.store.has("plan"):
            wrong = (run.code or "").startswith("planning.")
            return Finding("planning", False if wrong else None, measures={"planned": False})
        plan: GraspPlan = run.store.get("plan")
        off_m = float(np.linalg.norm((_tcp(plan.approach.positions[-1]) - plan.grasp.T_base_tcp)[:3, 3]))
        measures: dict[str, Any] = {"goal_off_m": off_m}
        measures["start_off_rad"] = float(np.abs(plan.to_pregrasp.positions[0] - LOOK_Q).max())
        measures["lift_m"] = float((_tcp(plan.lift.positions[-1]) - _tcp(plan.lift.positions[0]))[2, 3])
        name = self.truth.aimed_at(run.store.get("part_mask").object_mask)
        misled = off_m > self.tolerance.goal_m or measures["start_off_rad"] > START_TOLERANCE_RAD
        if misled or measures["lift_m"] < LIFTED_M or _not_sent(run.code):
            return Finding("planning", False, measures=measures)
        if name is None:
            return Finding("planning", None, measures=measures)
        replay = Replay(self.cell.model, self._qpos_believed(self._believed(run)))
        touches = [t for t in replay.touches(plan, name) if t.depth_m > self.tolerance.touch_m]
        measures["touches"] = [str(touch) for touch in touches]
        return Finding("planning", not touches, measures=measures)

    def execution(self, run: Run) -> Finding:
        """What the arm reported. That it did as planned, and the thing slipped or fell, says nothing by itself."""
        if not run.reached("execute"):
            return Finding("execution", None, False)
        right = True if run.failure is None else False if run.code in BY_ARM else None
        return Finding("execution", right, measures={"code": run.code})

    def _believed(self, run: Run) -> Array:
        return self.truth.believed(run.store.get("frame").T_base_camera)

    @cached_property
    def _surfaces(self) -> TrueSurfaces:
        poses = self.truth.T_base_object
        return TrueSurfaces(
            {
                o.name: [
                    (v.part, transform_points(poses[o.name], v.mesh.vertices), v.mesh.faces) for v in o.obj.visuals
                ]
                for o in self.truth.scene.objects
            }
        )

    def _qpos_believed(self, believed: Array) -> Array:
        """(nq,) with all things where the camera's pose shows them, the arm where it waits."""
        model = self.cell.model
        qpos = self.truth.qpos.copy()
        for name, T in self.truth.T_base_object.items():
            there, at = believed @ T, model.joint(f"{name}/free").qposadr[0]
            qpos[at : at + 7] = np.r_[there[:3, 3], quaternion(there[:3, :3])]
        return qpos


def first_failing(findings: dict[str, Finding]) -> str | None:
    """The first cause, in the order of the pipeline, whose output was wrong."""
    return next((cause for cause in CAUSES if findings[cause].right is False), None)


def _not_sent(code: str | None) -> bool:
    """Did the safety layer refuse a motion as it was planned?"""
    return (code or "").startswith("safety.") and code not in ("safety.force", "safety.payload")


def _moved(grasp: Grasp, T: Array) -> Grasp:
    return Grasp(T @ grasp.T_base_tcp, grasp.width_m, grasp.score, grasp.terms)


def _tcp(q: Array) -> Array:
    chain = chain_of("UR5e")
    return chain.tcp(chain.links(q[None]))[0]


def _aside_px(seen: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """How far the edges of one depth picture lie beside those of the other, by phase correlation."""

    def edges(depth_m: NDArray[np.float32]) -> Array:
        filled = np.where(depth_m > 0, depth_m, np.median(depth_m[depth_m > 0])).astype(np.float32)
        slope = np.hypot(cv2.Sobel(filled, cv2.CV_64F, 1, 0), cv2.Sobel(filled, cv2.CV_64F, 0, 1))
        return np.clip(slope, 0, 0.1)

    (dx, dy), _ = cv2.phaseCorrelate(edges(true), edges(seen))
    return float(np.hypot(dx, dy))
