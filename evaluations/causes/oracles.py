"""Repairs: for each cause a stage that is perfect given its input.

    language     the query that the gold stands for, or the question or refusal that was expected
    depth        the depth picture without noise, holes and faults
    calibration  the true pose of the camera
    grounding    the true mask of what the query asks for
    grasp        a grasp on what the given mask marks that holds in physics, hand alone, and that the arm can reach
    planning     a plan among the true shapes, by a long search
    execution    the plan as it is, by an arm without faults

A repair of a later stage does not mend what came before it: grasps and shapes are placed in the world as the given
camera pose shows it, and a perfect mask of the wrong query marks the wrong thing. Where a stage cannot be perfect (the
thing is not there, no grasp holds) the usual stage runs, without injected faults of that cause.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from affordagent.core.errors import NeedsClarification, Refused, StageFailure
from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.types import DeliveryGoal, FunctionalQuery, Grasp, GraspSet, Mask, PartCloud, PartMask, TableScene
from affordagent.evaluations.causes.truth import Truth
from affordagent.graphs import delivering, grounding, moving, stages
from affordagent.graphs.state import Done, GraspState, Stage, Workbench
from affordagent.robot.sim.hand import HandScene
from affordagent.tools import handle_free
from affordagent.tools.depth_projection import lift, voxel_downsample
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85
from affordagent.tools.grasping.propose import propose
from affordagent.tools.motion.plan_grasp import plan_grasp
from affordagent.tools.table import find_objects

NEAR_M = 0.02  # of the given part's points: a grasp there is on what was given
MOST_PLANNED, MOST_TRIED, ENOUGH = 30, 8, 2  # grasps looked at, tried in physics, and handed on as they hold
LONG_CHECKS, SHORT_CHECKS = 100_000, 1000  # postures that a search may test
SHAPE_M = 0.003  # spacing of the points that stand for true shapes


@dataclass
class Oracles:
    """The repairs in one cell. What is costly is made once and kept."""

    truth: Truth
    hand: HandScene | None = None
    _grasps: dict[bytes, list[Grasp]] = field(default_factory=dict, repr=False)
    _table: TableScene | None = field(default=None, repr=False)

    def swaps(
        self, repaired: Collection[str], faulty: dict[str, Stage], recorded: dict[str, Stage], attempt: int = 0
    ) -> dict[str, Stage]:
        """Nodes and what they do where these causes are repaired and the faults of all others stay.

        faulty: the injected faults that stay, by node. recorded: stages that put what an earlier run made, for those
        that a repair starts from ("look"); the stage itself is run where there is none. attempt: which of the grasps
        that hold comes first, 0 = the best ranked.
        """
        found: dict[str, Stage] = {}
        if "language" in repaired:
            found["understand"] = self.understand
        if {"depth", "calibration"} & set(repaired):
            usual = recorded.get("look") or faulty.get("look", stages.look)
            found["look"] = self._look(usual, depth="depth" in repaired, calibration="calibration" in repaired)
        if "grounding" in repaired:
            found |= {"ground": self.ground, "find_destination": self.find_destination}
        if "grasp" in repaired:
            found["propose"] = partial(self.propose, attempt=attempt)
        if "planning" in repaired:
            found["plan"] = self.plan
        return faulty | found

    # ---- language ---------------------------------------------------------------------------------------------------

    def understand(self, bench: Workbench, state: GraspState) -> Done:
        """The true query."""
        if self.truth.expected == "ask":
            raise NeedsClarification("understand", "language.ambiguous", "as expected", question="Which one?")
        if self.truth.expected == "refuse":
            raise Refused("understand", "language.no_motion_wanted", "as expected")
        try:
            given = bench.understand(state["command"])
        except StageFailure:
            given = FunctionalQuery(text=state["command"], intent="pick")
        query = self.truth.query_for(given)
        bench.store.put("query", query)
        return Done("true query", {}, {"places": True} if query.destination is not None else GraspState())

    # ---- depth and calibration --------------------------------------------------------------------------------------

    def _look(self, usual: Stage, depth: bool, calibration: bool) -> Stage:
        def stage(bench: Workbench, state: GraspState) -> Done:
            try:
                usual(bench, state)
            except StageFailure as failure:
                if not (calibration if failure.code.startswith("calibration.") else depth):
                    raise
                if not bench.store.has("frame"):
                    stages.look(bench, state)
            frame = bench.store.get("frame")
            if calibration:
                frame = replace(frame, T_base_camera=self.truth.T_base_camera)
            if depth:
                frame = replace(frame, depth_m=self.truth.depth_m)
            bench.store.put("frame", frame)
            if depth or not bench.store.has("table"):
                bench.store.put("table", self._true_table(frame) if depth else find_objects(frame))
            return Done("true depth" * depth + " true pose" * calibration)

        return stage

    def _true_table(self, frame: Any) -> TableScene:
        if self._table is None:
            self._table = find_objects(replace(frame, depth_m=self.truth.depth_m))
        return self._table

    # ---- grounding --------------------------------------------------------------------------------------------------

    def ground(self, bench: Workbench, state: GraspState) -> Done:
        """The true mask of what the query asks for."""
        query = bench.store.get("query")
        part = self.true_mask(query)
        if part is None:
            return grounding.ground(bench, state)
        bench.store.put("part_mask", part)
        return Done("true mask", {"tool": "truth"}, {"grounding": "sure"})

    def true_mask(self, query: FunctionalQuery) -> PartMask | None:
        """None where no visible thing of the scene is asked for."""
        thing = self.truth.target_of(query)
        if thing is None:
            return None
        whole = self.truth.mask(thing.name)
        part = self.truth.mask(thing.name, query.part)
        return PartMask(part, whole, 1.0, "truth", {}, 1.0) if part.any() else None

    def find_destination(self, bench: Workbench, state: GraspState) -> Done:
        """The true mask of the thing to put it into, onto or beside."""
        mask = self.true_destination(bench.store.get("query"))
        if mask is None:
            return delivering.find_destination(bench, state)
        bench.store.put("destination", PartMask(mask, mask, 1.0, "truth", {}, 1.0))
        return Done("true destination")

    def true_destination(self, query: FunctionalQuery) -> Mask | None:
        """None where no visible thing is the destination: the table, or nothing that is there."""
        there = query.destination
        meant = [
            o for o in self.truth.scene.objects if there is not None and o.category in (there.category, there.words)
        ]
        mask = self.truth.mask(meant[0].name) if meant else None
        return mask if mask is not None and mask.any() else None

    # ---- grasp ------------------------------------------------------------------------------------------------------

    def propose(self, bench: Workbench, state: GraspState, attempt: int = 0) -> Done:
        """Grasps that hold, the best ranked first."""
        grasps = self.grasps_that_hold(bench)
        if not grasps:
            return stages.propose(bench, state)
        grasps = grasps[attempt:] + grasps[:attempt]
        T_base_camera = bench.store.get("frame").T_base_camera
        bench.store.put("grasps", (GraspSet.of(grasps, backend="truth"), T_base_camera))
        return Done(f"{len(grasps)} grasps that hold")

    def grasps_that_hold(self, bench: Workbench) -> list[Grasp]:
        """Where the arm believes them to be, given the camera's pose; at most ENOUGH, none where none of MOST_TRIED
        holds."""
        part, cloud, frame = (bench.store.get(name) for name in ("part_mask", "cloud", "frame"))
        key = b"".join(np.ascontiguousarray(a).tobytes() for a in (part.mask, part.object_mask, cloud.part))
        if key not in self._grasps:
            name = self.truth.aimed_at(part.object_mask)
            believed = self.truth.believed(frame.T_base_camera)
            self._grasps[key] = [] if name is None else list(self._holding(bench, name, believed))
        return self._grasps[key]

    def _holding(self, bench: Workbench, name: str, believed: Array) -> Iterator[Grasp]:
        part, given, query = (bench.store.get(n) for n in ("part_mask", "cloud", "query"))
        label = None if handle_free.is_free(part) else self.truth.part_under(name, part.mask)
        proposed = self._true_proposals(bench, part, query)
        near = cKDTree(transform_points(invert(believed), given.part))
        waiting = [g for g in proposed if near.query(g.T_base_tcp[:3, 3])[0] < NEAR_M][:MOST_PLANNED]
        goal = delivering.delivery_goal(bench)
        found = 0
        for _ in range(MOST_TRIED):
            first = _first_planned(bench, [_moved(grasp, believed) for grasp in waiting], goal)
            if first is None:
                return
            if self.holds(name, label, waiting[first]):
                found += 1
                yield _moved(waiting[first], believed)
            waiting = waiting[first + 1 :]
            if found == ENOUGH:
                return

    def _true_proposals(self, bench: Workbench, part: PartMask, query: FunctionalQuery) -> GraspSet:
        """Of the usual sampler, on the true cloud of what the mask marks, in the true base frame."""
        frame = bench.store.get("frame")
        true = replace(frame, depth_m=self.truth.depth_m, T_base_camera=self.truth.T_base_camera)
        free = handle_free.is_free(part)
        handover = query.intent == "hand_over" and not free
        try:
            cloud = lift(true, self._true_table(true), part)
            return propose(cloud, bench.seed, handover=handover, handle_free=free, arm=bench.arm_model)
        except StageFailure:
            return GraspSet.of([])

    def holds(self, name: str, part: str | None, grasp: Grasp) -> bool:
        """Does the hand alone, at a pose in the true base frame, lift and hold the object by the part?"""
        opening_m = float(ROBOTIQ_2F85.opening_for_m(grasp.width_m))
        if self.hand is None:
            self.hand = HandScene(self.truth.scene)
        return self.hand.try_grasp(name, part, grasp.T_base_tcp, opening_m).success

    # ---- planning ---------------------------------------------------------------------------------------------------

    def plan(self, bench: Workbench, state: GraspState) -> Done:
        """A plan among the true shapes, where the camera's pose shows them."""
        part, frame, cloud = (bench.store.get(name) for name in ("part_mask", "frame", "cloud"))
        name = self.truth.aimed_at(part.object_mask)
        if name is None:
            return moving.plan(bench, state)
        patient = replace(bench, limits=replace(bench.limits, planning_checks=LONG_CHECKS))
        with _cloud(bench, self._true_shapes(cloud, name, self.truth.believed(frame.T_base_camera))):
            try:
                return moving.plan(patient, state)
            except StageFailure:
                pass  # among what was seen there may be a way
        return moving.plan(patient, state)

    def _true_shapes(self, cloud: PartCloud, name: str, believed: Array) -> PartCloud:
        points = {
            other: transform_points(believed @ self.truth.T_base_object[other], local)
            for other, local in self._surfaces.items()
        }
        others = [p for other, p in points.items() if other != name]
        under = transform_points(believed, self.truth.T_base_object[name][None, :3, 3] * [1, 1, 0])
        return replace(
            cloud,
            object=points[name],
            obstacles=np.concatenate(others) if others else cloud.obstacles[:0],
            table_z_m=float(under[0, 2]),
        )

    @cached_property
    def _surfaces(self) -> dict[str, Array]:
        """Points on each thing's surface, (N, 3) in its own frame."""
        return {o.name: _sampled([v.mesh for v in o.obj.visuals]) for o in self.truth.scene.objects}


def _sampled(meshes: list[trimesh.Trimesh]) -> Array:
    counts = [int(2 * mesh.area / SHAPE_M**2) + 1 for mesh in meshes]
    sampled = [trimesh.sample.sample_surface(m, n, seed=0)[0] for m, n in zip(meshes, counts, strict=True)]
    return voxel_downsample(np.concatenate([*sampled, *(m.vertices for m in meshes)]), SHAPE_M)


def _moved(grasp: Grasp, T: Array) -> Grasp:
    return replace(grasp, T_base_tcp=T @ grasp.T_base_tcp)


def _first_planned(bench: Workbench, grasps: list[Grasp], goal: DeliveryGoal | None) -> int | None:
    """The first of the grasps that the arm can take, by a short search; None where there is none."""
    assert bench.arm is not None
    limits = replace(bench.limits, planning_checks=SHORT_CHECKS)
    cloud, start_q = bench.store.get("cloud"), bench.arm.read().positions
    try:
        return plan_grasp(grasps, cloud, start_q, limits=limits, arm=bench.arm_model, delivery=goal).grasp_index
    except StageFailure:
        return None


@contextmanager
def _cloud(bench: Workbench, cloud: PartCloud) -> Iterator[None]:
    """For a moment, another cloud in the store."""
    before = bench.store.get("cloud")
    bench.store.put("cloud", cloud)
    try:
        yield
    finally:
        bench.store.put("cloud", before)


def unless_hopeless(truth: Truth, usual: Stage) -> Stage:
    """Instead of `execute`: the end where the judge would say that another object is aimed at, whatever the motion."""

    def stage(bench: Workbench, state: GraspState) -> Done:
        there = bench.store.get("part_mask").object_mask
        if truth.gold is not None and truth.aimed_at(there) not in truth.gold.objects:
            raise StageFailure("verify", "grounding.wrong_object", "another object is aimed at: not carried out")
        return usual(bench, state)

    return stage


def recorded_look(store: Any) -> Stage:
    """The frame and the table of an earlier run."""
    frame, table = (store.get(name) if store.has(name) else None for name in ("frame", "table"))

    def stage(bench: Workbench, state: GraspState) -> Done:
        for name, value in (("frame", frame), ("table", table)):
            if value is not None:
                bench.store.put(name, value)
        return Done("as before")

    return stage
