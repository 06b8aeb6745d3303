"""The replay of plans among true shapes finds what touches, and nothing else."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from affordagent.core.geometry import Array, rigid
from affordagent.core.types import DeliveryGoal, Grasp, GraspPlan, PartCloud
from affordagent.evaluations.plan_replay import Replay
from affordagent.evaluations.planning import blocks, summarise, surface
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.limits import MotionLimits
from affordagent.robot.sim.joints import settle
from affordagent.robot.sim.scene import build_spec, sample_scene
from affordagent.tools.motion.plan_grasp import plan_grasp

HALF = np.array([0.06, 0.015, 0.02])
MIDDLE = np.array([0.5, 0.0, 0.02])


@pytest.fixture(scope="module")
def plan() -> GraspPlan:
    """A bar is taken and put down 25 cm further."""
    bar = surface((MIDDLE - HALF, MIDDLE + HALF), 0.005)
    cloud = PartCloud(
        bar, np.tile([0.0, 0, 1], (len(bar), 1)), bar, np.zeros((0, 3)), 0.0, np.array([0.9, 0, 0.7]), 1.0
    )
    closing, approach = np.array([0, 1.0, 0]), np.array([0, 0, -1.0])
    T_base_tcp = rigid(np.stack([np.cross(closing, approach), closing, approach], axis=1), [0.5, 0, 0.025])
    goal = DeliveryGoal("place", rigid(np.eye(3), [0, 0.25, 0.006])[None], np.zeros((0, 3)))
    return plan_grasp([Grasp(T_base_tcp, 0.03, 0.9)], cloud, LOOK_Q, limits=MotionLimits(), delivery=goal)


def replay(block: tuple[Array, Array] | None = None) -> Replay:
    """The empty table with the bar on it, and perhaps a block."""
    spec = build_spec(sample_scene("empty", 0), arm_faces=100)
    body = spec.worldbody.add_body(name="bar", pos=MIDDLE)
    body.add_freejoint(name="bar/free")
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=HALF, mass=0.1)
    if block is not None:
        size, middle = (block[1] - block[0]) / 2, (block[1] + block[0]) / 2
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=middle)
    model = spec.compile()
    data = mujoco.MjData(model)
    settle(model, data, LOOK_Q)
    return Replay(model, data.qpos)


def test_a_free_plan_touches_nothing(plan: GraspPlan) -> None:
    assert plan.delivery is not None
    assert replay().touches(plan, "bar") == []


@pytest.mark.parametrize(
    ("lower", "upper", "phase", "pair"),
    [
        ([0.44, 0.10, 0.0], [0.56, 0.13, 0.3], "carry", {"bar", "table"}),  # a wall that nobody has seen
        ([0.45, 0.24, 0.0], [0.55, 0.26, 0.02], "lower", {"bar", "table"}),  # where it is put down
        ([0.53, -0.014, 0.15], [0.55, 0.014, 0.17], "lift", {"bar", "table"}),  # above it
    ],
)
def test_what_was_not_seen_is_hit(
    plan: GraspPlan, lower: list[float], upper: list[float], phase: str, pair: set[str]
) -> None:
    found = replay((np.array(lower), np.array(upper))).touches(plan, "bar")
    assert phase in {touch.phase for touch in found}
    assert any({touch.first, touch.second} == pair for touch in found)
    assert all(touch.depth_m > 0 for touch in found)


def test_blocks_stand_apart() -> None:
    things = surface((MIDDLE - HALF, MIDDLE + HALF))
    found = blocks(3, things)
    assert found
    for lower, upper in found:
        gap = np.maximum(np.maximum(lower - things, things - upper), 0)[:, :2]
        assert np.linalg.norm(gap, axis=1).min() > 0.039
    assert all(np.array_equal(a, b) for a, b in zip(found[0], blocks(3, things)[0], strict=True))


def test_summary_counts_the_solvable() -> None:
    common = {"cpu_s": 0.1, "tcp_path_m": 1.0, "motion_s": 5.0, "touches": [], "unsafe": []}
    rows = [
        {"request": "table: a", "solved": True, "solvable": True, **common},
        {"request": "table: b", "solved": False, "solvable": True, "cpu_s": 0.3},
        {"request": "walls: c", "solved": False, "solvable": False, "cpu_s": 0.5},
        {"request": "walls: d", "solved": True, "solvable": True, **common, "touches": ["lift: a and b"]},
    ]
    figures = summarise([{"key": "x", "requests": rows}])
    assert (figures["all"]["solved_of_solvable"]["k"], figures["all"]["solved_of_solvable"]["n"]) == (2, 3)
    assert figures["walls"]["plans_that_touch"]["k"] == 1
