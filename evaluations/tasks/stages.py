"""The nodes of the grasp graph that do something else in a task: what is understood, found, planned, done and judged.

The graph, its records and its run folder stay as they are; what is not swapped (look, lift, and for a lid propose and
execute) runs as usual. In the run folder, besides: `contact.json`, the stroke as planned and made, and `look_2` and so
on, with the artefacts of the looks and strokes after the first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from affordagent.agent.language.tasks import understand_task
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.run_store import RunStore, write_json
from affordagent.core.types import DeliveryGoal, PartCloud, PartMask
from affordagent.evaluations.tasks.lid import lid_goal
from affordagent.evaluations.tasks.table import Way
from affordagent.graphs.moving import execute as usual_execute
from affordagent.graphs.stages import lift, look
from affordagent.graphs.state import Done, GraspState, Stage, Workbench
from affordagent.robot.safety import SafeArm
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.task_judge import Moment, judge_task, moment
from affordagent.robot.sim.task_scenes import TaskScene
from affordagent.tools.coloured import find_target, find_thing
from affordagent.tools.contact_execution import StrokeReport, leave, make_stroke
from affordagent.tools.contact_goals import Footprint, block_of, footprint_of, press_goal, push_goal, reach_goal
from affordagent.tools.destination import base_points
from affordagent.tools.motion.contact import ContactGoal, ContactPlan, plan_contact
from affordagent.tools.motion.plan_grasp import plan_grasp

NEAR_ENOUGH_M = 0.012  # of the block's middle to the target's, as seen: no further stroke


@dataclass
class Stroke:
    """One stroke as planned and made. block: as seen before it. goal: (2,) the middle of the target as seen. line: two
    (3,) ends of the tcp's way. trail: the truth before it and after each of its pieces."""

    line: Array
    block: Footprint | None = None
    goal: Array | None = None
    report: StrokeReport | None = None
    trail: list[Moment] = field(default_factory=list)


@dataclass
class TaskRun:
    """One task in one cell, and what has been found out on the way. way: of sliding."""

    name: str
    scene: TaskScene
    cell: SimCell
    way: Way
    before: Moment | None = None
    goal: ContactGoal | None = None
    plan: ContactPlan | None = None
    target_xy: Array | None = None
    strokes: list[Stroke] = field(default_factory=list)

    def swaps(self) -> dict[str, Stage]:
        """By node; nothing for "pick", which is a grasp as any other."""
        if self.name == "pick":
            return {}
        common: dict[str, Stage] = {
            "understand": self.understand,
            "ground": self.ground,
            "find_destination": self.find_destination,
            "verify": self.verify,
        }
        if self.name == "close":
            return {**common, "plan": self.plan_lid, "execute": self.put_lid}
        return {**common, "propose": self.propose, "plan": self.plan_stroke, "execute": self.execute}

    def understand(self, bench: Workbench, state: GraspState) -> Done:
        """The task's own sentences."""
        read = understand_task(state["command"])
        if read is None or read[0] != self.name:
            kind = "none of the tasks" if read is None else f"the task {read[0]}"
            message = f"this asks for {kind}, and here it is {self.name}: say it in other words"
            raise StageFailure("understand", "language.no_referent", message)
        query = read[1]
        bench.store.put("query", query)
        places = query.destination is not None
        return Done(f"{self.name}: the {query.object_words}", query.model_dump(), {"places": places})

    def ground(self, bench: Workbench, state: GraspState) -> Done:
        """The thing to act on, by its size and colour."""
        query, frame, table = (bench.store.get(name) for name in ("query", "frame", "table"))
        if self.way.truth == "none":
            part = find_thing(frame, table, query.object_words, query.attributes.get("colour"))
        else:
            part = self._true_mask(self.scene.thing)
        bench.store.put("part_mask", part)
        return Done(f"the {query.object_words}, {int(part.mask.sum())} px", _grounded(part), {"grounding": "sure"})

    def find_destination(self, bench: Workbench, state: GraspState) -> Done:
        """The target on the table, or the jar."""
        query, frame, table = (bench.store.get(name) for name in ("query", "frame", "table"))
        there, colour = query.destination.words, query.destination.attributes.get("colour")
        if self.way.truth != "none":
            assert self.scene.goal is not None
            found = self._true_mask(self.scene.goal)
        elif there == "target":
            found = find_target(frame, table, colour)
        else:
            found = find_thing(frame, table, there, colour)
        bench.store.put("destination", found)
        return Done(f"the {there}, {int(found.mask.sum())} px", _grounded(found))

    def propose(self, bench: Workbench, state: GraspState) -> Done:
        """Where to touch, and along which line."""
        cloud = bench.store.get("cloud")
        if self.name == "slide":
            frame, mask = bench.store.get("frame"), bench.store.get("destination").mask
            self.target_xy = footprint_of(base_points(frame, mask)).centre
            if self.way.truth == "poses":
                assert self.scene.goal is not None
                self.target_xy = self.scene.scene.object(self.scene.goal).T_base_object[:2, 3]
            self._propose_push(cloud)
        else:
            self.goal = reach_goal(cloud) if self.name == "reach" else press_goal(cloud)
            self.strokes.append(Stroke(_line(self.goal)))
        start, end = np.round(self.strokes[-1].line, 4).tolist()
        return Done(f"a stroke of {100 * np.linalg.norm(np.subtract(end, start)):.0f} cm", {"from": start, "to": end})

    def _propose_push(self, cloud: PartCloud) -> None:
        assert self.target_xy is not None
        block = block_of(cloud)
        if self.way.truth == "poses":
            T = moment(self.cell).T_base_body[self.scene.thing]
            sides = self.scene.scene.object(self.scene.thing).obj.parameters
            block = Footprint(T[:2, 3], T[:2, :2].T, np.array([sides["x_m"], sides["y_m"]]) / 2)
        if self.way.offset_m:  # a mask that is off to one side: to the left of the way in even scenes
            d = self.target_xy - block.centre
            left = np.array([-d[1], d[0]]) / np.linalg.norm(d)
            side = 1 if self.scene.scene.seed % 2 == 0 else -1
            block = replace(block, centre=block.centre + side * self.way.offset_m * left)
        self.goal = push_goal(cloud, block, self.target_xy, self.way.opening_m)
        self.strokes.append(Stroke(_line(self.goal), block, self.target_xy))

    def plan_stroke(self, bench: Workbench, state: GraspState) -> Done:
        """The first hand whose way there, stroke and way back are free."""
        assert bench.arm is not None
        bench.arm.make_ready()
        self._plan(bench, bench.arm)
        assert self.plan is not None
        seconds = sum(m.duration_s for m in (self.plan.to_above, self.plan.down, *self.plan.stroke))
        return Done(f"{len(self.plan.stroke)} pieces, {seconds:.1f} s of motion", {"pieces": len(self.plan.stroke)})

    def _plan(self, bench: Workbench, arm: SafeArm) -> None:
        assert self.goal is not None
        cloud, start_q = bench.store.get("cloud"), arm.read().positions
        self.plan = plan_contact(self.goal, cloud, start_q, limits=bench.limits, arm=bench.arm_model, seed=bench.seed)

    def execute(self, bench: Workbench, state: GraspState) -> Done:
        """The stroke and the way back; for a block that is not there yet, another look and another stroke."""
        arm = bench.arm
        assert arm is not None
        self.before = moment(self.cell)
        self._stroke(bench, arm)
        while self.name == "slide" and len(self.strokes) < self.way.strokes:
            again = self._again(bench)
            if again is None:
                break
            self._plan(again, arm)
            self._stroke(again, arm)
        reports = [asdict(s.report) for s in self.strokes if s.report is not None]
        return Done(f"{len(reports)} strokes", {"strokes": reports})

    def _stroke(self, bench: Workbench, arm: SafeArm) -> None:
        assert self.plan is not None
        stroke = self.strokes[-1]
        try:
            stroke.report = make_stroke(arm, self.plan, lambda: stroke.trail.append(moment(self.cell)))
            leave(arm, self.plan, stroke.report)
        finally:
            write_json(bench.store.folder / "contact.json", _as_json(stroke))

    def _again(self, first: Workbench) -> Workbench | None:
        """Look again: is the block not there yet? Then the next stroke is proposed, its artefacts in a folder of their
        own. The target stays where it was seen first, as the block hides a part of it now."""
        assert self.target_xy is not None
        folder = first.store.folder / f"look_{len(self.strokes) + 1}"
        bench = replace(first, store=RunStore(folder))
        bench.store.put("query", first.store.get("query"))
        for stage in (look, self.ground, lift):
            stage(bench, GraspState())
        cloud = bench.store.get("cloud")
        if np.linalg.norm(block_of(cloud).centre - self.target_xy) < NEAR_ENOUGH_M:
            return None
        self._propose_push(cloud)
        return bench

    def plan_lid(self, bench: Workbench, state: GraspState) -> Done:
        """A grasp of the lid with which it can be laid on the jar's rim."""
        assert bench.arm is not None
        bench.arm.make_ready()
        cloud, frame = bench.store.get("cloud"), bench.store.get("frame")
        jar = base_points(frame, bench.store.get("destination").object_mask)
        goal: DeliveryGoal = lid_goal(cloud, jar)
        start_q, grasps = bench.arm.read().positions, bench.store.get("grasps")[0]
        plan = plan_grasp(grasps, cloud, start_q, limits=bench.limits, arm=bench.arm_model, delivery=goal)
        bench.store.put("plan", plan)
        return Done(f"grasp {plan.grasp_index + 1} of {len(grasps)}", {"grasp_index": plan.grasp_index})

    def put_lid(self, bench: Workbench, state: GraspState) -> Done:
        self.before = moment(self.cell)
        return usual_execute(bench, state)

    def verify(self, bench: Workbench, state: GraspState) -> Done:
        """By the simulator's truth."""
        assert self.before is not None
        trail = self.strokes[-1].trail if self.strokes else []
        verdict = judge_task(self.name, self.scene, self.before, trail[-1] if trail else None, moment(self.cell))
        bench.store.put("verdict", verdict)
        said = ", ".join(f"{name} {'passed' if ok else 'FAILED'}" for name, ok in verdict.checks.items())
        if not verdict.success:
            evidence = {"checks": verdict.checks, "measured": verdict.measured, "by": verdict.by}
            raise StageFailure("verify", verdict.code or "verify.unknown", f"not done: {said}", **evidence)
        return Done(said, asdict(verdict), {"outcome": "success"})

    def _true_mask(self, name: str) -> PartMask:
        mask = next(t.mask for t in self.cell.truth() if t.name == name)
        return PartMask(mask, mask, 1.0, "truth")


def _line(goal: ContactGoal) -> Array:
    start = goal.T_base_tcp[0][:3, 3]
    return np.stack([start, start + goal.stroke_m])


def _grounded(part: PartMask) -> dict[str, Any]:
    return {"tool": part.tool, "confidence": part.confidence, **part.evidence}


def _as_json(stroke: Stroke) -> dict[str, Any]:
    block = stroke.block
    return {
        "line": np.round(stroke.line, 5).tolist(),
        "block": None if block is None else np.round(block.corners, 5).tolist(),
        "goal": None if stroke.goal is None else np.round(stroke.goal, 5).tolist(),
        "report": None if stroke.report is None else asdict(stroke.report),
        "trail": [{n: np.round(T, 5).tolist() for n, T in m.T_base_body.items()} for m in stroke.trail],
    }
