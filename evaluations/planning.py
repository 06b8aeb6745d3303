"""Planning on its own: grasps from true masks on simulated scenes, planned, and replayed among the true shapes.

    python -m affordagent.evaluations.planning --first-seed 1000 --scenes 60 --out DIR/planning.jsonl

A request is one call of `plan_grasp` with the ranked grasps of one thing. Families: "table", things on a table;
"walls", the same with four blocks 15 to 45 cm high between them; "into box" and "hand over", with a delivery. A request
that fails counts as solvable if a far longer search, over several seeds, finds a plan. Every plan is replayed in MuJoCo
without physics (`plan_replay`), and shown to the safety layer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import DeliveryGoal, Destination, GraspPlan, GraspSet, JointTrajectory, PartCloud, PartMask
from affordagent.evaluations.plan_replay import Replay
from affordagent.evaluations.statistics import rate
from affordagent.evaluations.trials import Row, run_trials
from affordagent.robot.hand_over import HandOver
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.kinematics import ArmKinematics, chain_of
from affordagent.robot.limits import MotionLimits
from affordagent.robot.model import MAX_OPENING_M
from affordagent.robot.safety import SafeArm
from affordagent.tools.delivery import hand_over_goal, place_goal
from affordagent.tools.depth_projection import lift
from affordagent.tools.grasping.propose import propose
from affordagent.tools.motion.collision import sphere_centres
from affordagent.tools.motion.plan_grasp import plan_grasp
from affordagent.tools.table import find_objects

SCENES = ("mixed", "bench", "packing", "kitchen", "workshop", "packing")  # by seed, in turn
LIMITS = MotionLimits()
LONG_SEEDS, LONG_CHECKS = range(1, 6), 100_000  # of the search that decides what is solvable
BLOCKS = 4
_BLOCK_GAP_M, _ARM_GAP_M = 0.04, 0.12  # of a block from things, and from the arm where it waits
_CONTAINER = "open box"
_LEAST_PIXELS = 100


@dataclass(frozen=True)
class Trial:
    """All requests in one scene."""

    seed: int

    @property
    def scene(self) -> str:
        return SCENES[self.seed % len(SCENES)]

    @property
    def key(self) -> str:
        return f"{self.scene}-{self.seed}"


@dataclass(frozen=True)
class Request:
    """One call of `plan_grasp`. name: what is asked for; target: the body to hold."""

    name: str
    target: str
    grasps: GraspSet
    cloud: PartCloud
    delivery: DeliveryGoal | None = None

    def plan(self, limits: MotionLimits = LIMITS, seed: int = 0) -> GraspPlan:
        return plan_grasp(self.grasps, self.cloud, LOOK_Q, limits=limits, seed=seed, delivery=self.delivery)


Block = tuple[Array, Array]  # lower and upper corner


def blocks(seed: int, things: Array) -> list[Block]:
    """Upright blocks at random places of the table, away from the points of things (N, 3) and from the waiting arm."""
    rng, found = np.random.default_rng([seed, 77]), []
    arm = sphere_centres(ArmKinematics(), LOOK_Q, MAX_OPENING_M)
    for _ in range(1000):
        half = np.append(rng.uniform([0.015, 0.015], [0.06, 0.12]), rng.uniform(0.15, 0.45) / 2)
        middle = np.append(rng.uniform([0.25, -0.45], [0.8, 0.45]), half[2])
        if _gap_m(things[:, :2], middle[:2], half[:2]) > _BLOCK_GAP_M and _gap_m(arm, middle, half) > _ARM_GAP_M:
            found.append((middle - half, middle + half))
        if len(found) == BLOCKS:
            break
    return found


def _gap_m(points: Array, middle: Array, half: Array) -> float:
    return float(np.linalg.norm(np.maximum(np.abs(points - middle) - half, 0), axis=1).min())


def surface(block: Block, spacing_m: float = 0.006) -> Array:
    """(N, 3) points on a block."""
    axes = [np.linspace(a, b, max(2, int((b - a) / spacing_m) + 1)) for a, b in zip(*block, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return points[(np.isclose(points, block[0]) | np.isclose(points, block[1])).any(axis=1)]


def run_scene(trial: Trial) -> Row:
    """Plan, replay and check all requests of a scene."""
    import torch

    torch.set_num_threads(1)
    from affordagent.robot.sim.cell import SimCell
    from affordagent.robot.sim.scene import build_spec, sample_scene

    scene = sample_scene(trial.scene, trial.seed)
    with SimCell(scene, seed=trial.seed) as cell:
        qpos = cell.data.qpos.copy()
        requests = list(_requests(cell))
        replay = Replay(cell.model, qpos)
    rows = [answer(request, replay) for request in requests]
    if trial.scene != "packing" and requests:
        standing = blocks(trial.seed, np.concatenate([requests[0].cloud.obstacles, requests[0].cloud.object]))
        spec = build_spec(scene)
        for lower, upper in standing:
            size, middle = (upper - lower) / 2, (upper + lower) / 2
            spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=middle)
        replay = Replay(spec.compile(), qpos)
        seen = np.concatenate([surface(block) for block in standing])
        rows += [answer(_among(request, seen), replay) for request in requests]
    return {"key": trial.key, "requests": rows}


def _among(request: Request, seen: Array) -> Request:
    """The same request with more obstacles, (N, 3) points."""
    cloud = replace(request.cloud, obstacles=np.concatenate([request.cloud.obstacles, seen]))
    return replace(request, name=request.name.replace("table", "walls", 1), cloud=cloud)


def _requests(cell: Any) -> Iterator[Request]:
    """Each thing whose part can be seen and has grasps; with two deliveries each where there is a box."""
    frame = cell.look()
    table, truth = find_objects(frame), cell.truth()
    container = next((t for t in truth if t.category == _CONTAINER), None)
    for thing in truth:
        name = thing.name
        if thing is container or thing.part_mask.sum() < _LEAST_PIXELS:
            continue
        try:
            cloud = lift(frame, table, PartMask(thing.part_mask, thing.mask, 1.0, "truth"))
            grasps = propose(cloud)
        except StageFailure:
            continue  # nothing to plan for
        if container is None:
            yield Request(f"table: {name}", name, grasps, cloud)
            continue
        yield Request(f"hand over: {name}", name, grasps, cloud, hand_over_goal(cloud, HandOver(), False))
        destination = Destination(relation="in", words=_CONTAINER, category=_CONTAINER)
        try:
            box = lift(frame, table, PartMask(container.mask, container.mask, 1.0, "truth"))
            goal = place_goal(cloud, destination, box.object, np.empty((0, 3)))
        except StageFailure:
            continue  # it does not fit in
        yield Request(f"into box: {name}", name, grasps, cloud, goal)


def answer(request: Request, replay: Replay) -> Row:
    """The row of a request: was it solved, how fast, how long is the way, does it touch anything?"""
    started = time.process_time()
    row: Row = {"request": request.name, "grasps": len(request.grasps)}
    try:
        plan = request.plan()
    except StageFailure as failure:
        row |= {"solved": False, "cpu_s": round(time.process_time() - started, 4), "code": failure.code}
        return row | {"counts": failure.evidence.get("counts", {}), "solvable": solvable(request)}
    row |= {"solved": True, "cpu_s": round(time.process_time() - started, 4), "solvable": True}
    motions, carry = _motions(plan), [plan.delivery.carry] if plan.delivery else []
    safe = SafeArm(None, LIMITS, ArmKinematics())  # type: ignore[arg-type]  # only asked, never moved
    unsafe = [v.code for motion, opening_m in motions if (v := safe.check(motion, opening_m)) is not None]
    return row | {
        "grasp_index": plan.grasp_index,
        "joint_path_rad": round(sum(_joint_path_rad(motion) for motion, _ in motions), 3),
        "tcp_path_m": round(sum(_tcp_path_m(motion) for motion, _ in motions), 3),
        "free_path_s": [round(motion.duration_s, 3) for motion in (plan.to_pregrasp, *carry)],
        "motion_s": round(sum(motion.duration_s for motion, _ in motions), 3),
        "unsafe": unsafe,
        "touches": [str(touch) for touch in replay.touches(plan, request.target)],
    }


def solvable(request: Request) -> bool:
    """Does a far longer search, over several seeds, find a plan?"""
    limits = replace(LIMITS, planning_checks=LONG_CHECKS)
    for seed in LONG_SEEDS:
        try:
            request.plan(limits, seed)
        except StageFailure:
            continue
        return True
    return False


def _motions(plan: GraspPlan) -> list[tuple[JointTrajectory, float]]:
    """All motions of a plan, each with the opening of the fingers."""
    width_m, d = plan.grasp.width_m, plan.delivery
    found = [(plan.to_pregrasp, plan.opening_m), (plan.approach, plan.opening_m), (plan.lift, width_m)]
    if d is not None:
        found += [(d.carry, width_m), *([] if d.lower is None else [(d.lower, width_m)]), (d.retreat, d.opening_m)]
    return found


def _joint_path_rad(motion: JointTrajectory) -> float:
    return float(np.linalg.norm(np.diff(motion.positions, axis=0), axis=1).sum())


def _tcp_path_m(motion: JointTrajectory) -> float:
    chain = chain_of("UR5e")
    positions = chain.tcp(chain.links(motion.positions))[:, :3, 3]
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """By family and in all: share solved of the solvable, CPU seconds, collisions, refusals of the safety layer."""
    requests = [request for row in rows for request in row["requests"]]
    families = dict.fromkeys(r["request"].split(":")[0] for r in requests)
    split = {name: [r for r in requests if r["request"].startswith(f"{name}:")] for name in families}
    return {name: _figures(part) for name, part in {**split, "all": requests}.items()}


def _figures(requests: Sequence[Row]) -> dict[str, Any]:
    solved, possible = [r for r in requests if r["solved"]], [r for r in requests if r["solvable"]]
    cpu_s = [r["cpu_s"] for r in requests]
    return {
        "requests": len(requests),
        "solved_of_solvable": rate(len(solved), len(possible)),
        "cpu_s": {f"p{p}": round(float(np.percentile(cpu_s, p)), 3) for p in (50, 95, 100)},
        "tcp_path_m": round(float(np.median([r["tcp_path_m"] for r in solved])), 3),
        "motion_s": round(float(np.median([r["motion_s"] for r in solved])), 2),
        "plans_that_touch": rate(sum(bool(r["touches"]) for r in solved), len(solved)),
        "refused_by_safety": sum(bool(r["unsafe"]) for r in solved),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON lines, one a scene; what they hold is not run again"
    )
    args = parser.parse_args(argv)
    trials = [Trial(seed) for seed in range(args.first_seed, args.first_seed + args.scenes)]
    rows = run_trials(
        trials,
        args.out,
        run_scene,
        args.workers,
        lambda row: print(row["key"], flush=True),
    )
    print(json.dumps(summarise(rows), indent=1))


if __name__ == "__main__":
    main()
