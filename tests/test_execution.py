"""The sequence of a grasp and what it says when something goes wrong, on an arm that only keeps the protocol."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from affordagent.core.errors import StageFailure
from affordagent.core.types import Grasp, GraspPlan, JointTrajectory
from affordagent.robot.interface import LOOK_Q, ArmState, MotionResult
from affordagent.tools.execution import execute


@dataclass
class ScriptedArm:
    """Goes where it is told at once. object_m: width of what is between the fingers when they close; lost_in: phase in
    which it is lost; broken_in: motion that ends early."""

    object_m: float = 0.03
    lost_in: str = ""
    broken_in: str = ""
    widest_m: float = 0.085
    phases: list[str] = field(default_factory=list)
    q: np.ndarray = field(default_factory=lambda: LOOK_Q.copy())
    width_m: float = 0.0
    time_s: float = 0.0

    def read(self) -> ArmState:
        return ArmState(self.q.copy(), self.width_m, self.time_s)

    def _enter(self, phase: str, duration_s: float) -> None:
        self.phases.append(phase)
        self.time_s += duration_s
        if phase == self.lost_in:
            self.object_m = self.width_m = 0.0

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        np.testing.assert_allclose(trajectory.positions[0], self.q)
        self._enter(phase, trajectory.duration_s)
        if phase == self.broken_in:
            return MotionResult(False, self.read(), 0.3, "execution.stopped", "stopped on request")
        self.q = trajectory.positions[-1]
        return MotionResult(True, self.read(), 0.001)

    def make_ready(self) -> list[str]:
        return []

    def grip(self, width_m: float, phase: str) -> MotionResult:
        self._enter(phase, 0.5)
        self.width_m = min(max(width_m, self.object_m if phase == "close" else 0.0), self.widest_m)
        return MotionResult(True, self.read())

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        self._enter(phase, duration_s)
        return MotionResult(True, self.read())

    def stop(self) -> None:
        raise AssertionError("nobody stops here")


@pytest.fixture
def plan() -> GraspPlan:
    def motion(start: float, end: float) -> JointTrajectory:
        return JointTrajectory(np.stack([LOOK_Q + start, LOOK_Q + end]), np.array([0.0, 1.0]))

    return GraspPlan(Grasp(np.eye(4), 0.03, 0.9), 0, 0.05, motion(0, 0.5), motion(0.5, 0.7), motion(0.7, 1.0))


def test_whole_sequence(plan: GraspPlan) -> None:
    arm = ScriptedArm()
    report = execute(arm, plan)
    assert arm.phases == ["open", "to_pregrasp", "approach", "close", "lift", "hold"]
    assert report.closed_width_m == report.held_width_m == 0.03
    assert report.duration_s == pytest.approx(6.0)


def test_draws_back_when_nothing_is_there(plan: GraspPlan) -> None:
    arm = ScriptedArm(object_m=0.0)
    with pytest.raises(StageFailure, match="nothing was there") as caught:
        execute(arm, plan)
    assert caught.value.code == "execution.no_contact"
    assert arm.phases[-2:] == ["release", "retreat"]
    np.testing.assert_array_equal(arm.q, plan.approach.positions[0])


def test_tells_a_drop(plan: GraspPlan) -> None:
    with pytest.raises(StageFailure) as caught:
        execute(ScriptedArm(lost_in="lift"), plan)
    assert caught.value.code == "execution.drop"
    assert caught.value.evidence["closed_width_m"] == 0.03


def test_tells_fingers_that_do_not_open(plan: GraspPlan) -> None:
    arm = ScriptedArm(widest_m=0.02)
    with pytest.raises(StageFailure) as caught:
        execute(arm, plan)
    assert caught.value.code == "execution.gripper"
    assert arm.phases == ["open"]


@pytest.mark.parametrize("phase", ["to_pregrasp", "approach", "lift"])
def test_ends_with_the_motion_that_broke(plan: GraspPlan, phase: str) -> None:
    arm = ScriptedArm(broken_in=phase)
    with pytest.raises(StageFailure, match=f"{phase} ended early") as caught:
        execute(arm, plan)
    assert caught.value.code == "execution.stopped"
    assert arm.phases[-1] == phase
