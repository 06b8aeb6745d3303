"""Known and unseen things, each in ten scenes: from the true mask to the strict verdict.

The target stands at a random place and turn among five other things. Its true mask takes the place of language and
grounding; what follows is the chain of a run: lift, propose, plan, the motion in physics, and the simulator's strict
judge. A scene counts whatever its target's pose: nothing is left out because it looks hard.

    affordagent eval instances --out runs/instances
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import FunctionalQuery, PartMask
from affordagent.evaluations.statistics import rate
from affordagent.evaluations.trials import Row, run_trials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from affordagent.robot.sim.cell import SimCell
    from affordagent.robot.sim.scene import Scene

Group = Literal["known", "unseen shape", "unseen category"]
GROUPS: tuple[Group, ...] = ("known", "unseen shape", "unseen category")
GOALS = {"known": 0.95, "unseen": 0.90}  # strict success; "unseen" is both unseen groups
OTHERS = 5
POSES = 10
REPORT_SEED = 1000  # scenes below are for development
ATTEMPTS = 20  # draws of the other things, until they fit on the table


@dataclass(frozen=True)
class Instance:
    """One thing: `library.make(category, seed)`."""

    group: Group
    category: str
    seed: int


def instances(first_seed: int = REPORT_SEED) -> list[Instance]:
    """20 known and 20 unseen things.

    Known: the library's first 20 categories, which have training pictures, in a shape of the training's range; the same
    ones in every run. Unseen: new shapes of ten of these categories, and one of each of the ten categories without
    training pictures; both from a range no training uses, and others for every `first_seed`.
    """
    from affordagent.robot.sim.objects import library
    from affordagent.robot.sim.scene import TEST_SEEDS, TRAINING_SEEDS

    known = list(library.CATEGORIES)[:20]
    unseen = TEST_SEEDS.start + first_seed
    return [
        *(Instance("known", c, TRAINING_SEEDS.start) for c in known),
        *(Instance("unseen shape", c, unseen) for c in known[::2]),
        *(Instance("unseen category", c, unseen) for c in library.HELD_OUT),
    ]


@dataclass(frozen=True)
class Trial:
    """An instance in the scene of `scene_seed`, with or without the depth camera's noise."""

    instance: Instance
    scene_seed: int
    noise: bool

    @property
    def key(self) -> str:
        thing = f"{self.instance.category}-{self.instance.seed}".replace(" ", "_")
        return f"{thing}-{self.scene_seed}{'-noise' if self.noise else ''}"

    @cached_property
    def scene(self) -> Scene:
        """The target is the first object."""
        return scene_around(self.instance.category, self.instance.seed, self.scene_seed)


def scene_around(category: str, instance_seed: int, scene_seed: int, name: str = "instances") -> Scene:
    """`library.make(category, instance_seed)`, the first object, among OTHERS of other categories.

    Raises:
        AffordAgentError: none of ATTEMPTS draws of other things fits on the table.
    """
    from affordagent.robot.sim.objects import library
    from affordagent.robot.sim.scene import TEST_SEEDS, arrange

    target = library.make(category, instance_seed)
    rng = np.random.default_rng([scene_seed, *category.encode()])
    pool = [c for c in library.CATEGORIES if c != category]
    for attempt in range(ATTEMPTS):
        chosen = rng.choice(pool, OTHERS, replace=False)
        others = [library.make(str(c), int(rng.integers(TEST_SEEDS.start, TEST_SEEDS.stop))) for c in chosen]
        try:
            return arrange([target, *others], rng, name, scene_seed)
        except AffordAgentError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def trials(
    first_seed: int = REPORT_SEED,
    poses: int = POSES,
    noise: Sequence[bool] = (False,),
    groups: Sequence[Group] = GROUPS,
) -> list[Trial]:
    """Every instance of the groups in scenes `first_seed` ... `first_seed + poses - 1`; pose by pose, so that a run cut
    short has seen all instances equally often."""
    things = [thing for thing in instances(first_seed) if thing.group in groups]
    return [Trial(t, first_seed + pose, noisy) for noisy in noise for pose in range(poses) for t in things]


def run_trial(trial: Trial) -> Row:
    """One episode: a strict verdict, or where and why it ended before."""
    import torch

    torch.set_num_threads(1)
    from affordagent.robot.sim.cell import SimCell

    cpu_s: dict[str, float] = {}
    row: Row = {"key": trial.key, **asdict(trial.instance), "scene_seed": trial.scene_seed, "noise": trial.noise}
    with _timed(cpu_s, "scene"):
        cell = SimCell(trial.scene, noise=trial.noise, seed=trial.scene_seed)
        cell.__enter__()
    try:
        row |= _episode(cell, cpu_s)
    except StageFailure as failure:
        row |= {"success": False, "stage": failure.stage, "code": failure.code, "message": failure.message}
    finally:
        cell.__exit__()
    return row | {"cpu_s": {name: round(seconds, 3) for name, seconds in cpu_s.items()}}


@contextmanager
def _timed(cpu_s: dict[str, float], name: str) -> Iterator[None]:
    """Note the CPU time of a step, also of one that fails."""
    started = time.process_time()
    try:
        yield
    finally:
        cpu_s[name] = time.process_time() - started


def _episode(cell: SimCell, cpu_s: dict[str, float]) -> Row:
    """The chain of a run on the first object of the scene.

    Raises:
        StageFailure: of the stage that ended it.
    """
    from affordagent.robot.kinematics import ArmKinematics
    from affordagent.robot.limits import MotionLimits
    from affordagent.robot.safety import SafeArm
    from affordagent.robot.sim.judge import Gold
    from affordagent.tools.depth_projection import lift
    from affordagent.tools.execution import execute
    from affordagent.tools.grasping.propose import propose
    from affordagent.tools.motion.plan_grasp import plan_grasp
    from affordagent.tools.table import find_objects

    limits = MotionLimits()
    target = cell.scene.objects[0]
    part = None if target.obj.part == "body" else target.obj.part
    cell.gold = Gold(frozenset({target.name}), part)
    with _timed(cpu_s, "look"):
        frame = cell.look()
        thing = next(t for t in cell.truth() if t.name == target.name)
    with _timed(cpu_s, "table"):
        table = find_objects(frame)
    with _timed(cpu_s, "lift"):
        cloud = lift(frame, table, PartMask(thing.part_mask, thing.mask, 1.0, "truth"))
    with _timed(cpu_s, "propose"):
        grasps = propose(cloud)
    with _timed(cpu_s, "plan"):
        plan = plan_grasp(grasps, cloud, cell.arm.read().positions, limits=limits)
    found: Row = {"grasps": len(grasps), "grasp_index": plan.grasp_index, "width_m": round(plan.grasp.width_m, 4)}
    ended: Row = {}
    with _timed(cpu_s, "execute"):
        try:
            execute(SafeArm(cell.arm, limits, ArmKinematics()), plan)
        except StageFailure as failure:
            ended = {"stage": failure.stage, "code": failure.code, "message": failure.message}
    with _timed(cpu_s, "judge"):
        query = FunctionalQuery(text=f"the {target.category}", intent="pick", category=target.category, part=part)
        verdict = cell.judge(plan, thing.mask, query)
    if not ended and not verdict.success:
        failed = [name for name, passed in verdict.checks.items() if not passed]
        ended = {"stage": "verify", "code": verdict.code, "message": f"failed: {', '.join(failed)}"}
    terms = {name: round(value, 2) for name, value in plan.grasp.terms.items()}
    return found | {"success": not ended, **ended, "measured": verdict.measured, "terms": terms}


def run(
    chosen: Sequence[Trial], log: Path, workers: int = 1, on_row: Callable[[Row], None] = lambda row: None
) -> list[Row]:
    """The rows of the trials; those that `log` has are not run again."""
    return run_trials(chosen, log, run_trial, workers, on_row)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Strict success with Wilson intervals for clean and noisy depth: known, unseen and by group and category; failures
    by stage and code; CPU seconds."""
    depth = {"clean": [r for r in rows if not r["noise"]], "noisy": [r for r in rows if r["noise"]]}
    failures = Counter(f"{r['stage']} {r['code']}" for r in rows if not r["success"])
    median, p90 = np.percentile([sum(r["cpu_s"].values()) for r in rows], [50, 90])
    return {
        **{name: _rates(part) for name, part in depth.items() if part},
        "failures": dict(failures.most_common()),
        "cpu_s_an_episode": {"median": round(float(median), 2), "p90": round(float(p90), 2)},
    }


def _rates(rows: Sequence[Row]) -> dict[str, Any]:
    def of(part: Sequence[Row]) -> dict[str, Any]:
        return rate(sum(r["success"] for r in part), len(part))

    halves = {"known": [r for r in rows if r["group"] == "known"], "unseen": [r for r in rows if r["group"] != "known"]}
    return {
        **{name: of(part) | {"goal": GOALS[name]} for name, part in halves.items() if part},
        "by_group": {g: of([r for r in rows if r["group"] == g]) for g in dict.fromkeys(r["group"] for r in rows)},
        "by_category": {c: of([r for r in rows if r["category"] == c]) for c in sorted({r["category"] for r in rows})},
    }
