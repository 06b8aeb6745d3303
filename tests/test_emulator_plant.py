"""The simulated cell behind the emulated controller: it must end a grasp as the simulated arm does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array
from affordagent.core.types import JointTrajectory, Verdict
from affordagent.evaluations.controller_path import Task, plan_with_truth
from affordagent.robot.arms import ARMS, ArmName, flange_pose
from affordagent.robot.emulator.plant import ScenePlant
from affordagent.robot.interface import LOOK_Q, READY_Q, ArmState, MotionResult
from affordagent.robot.model import TIMESTEP_S
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.contacts import PhaseLog
from affordagent.robot.sim.scene import sample_scene
from affordagent.robot.sim.view import SceneView
from affordagent.robot.ur5.cell import T_FLANGE_TCP
from affordagent.tools.execution import ExecutionReport, execute

SCENE, SEED = "mixed", 3
STILL = np.zeros(6)


class SteppedArm:
    """`robot.interface.Arm` that steps a plant as the controller would, without a controller."""

    def __init__(self, plant: ScenePlant, dt_s: float = TIMESTEP_S) -> None:
        self.plant, self.dt_s, self.time_s, self.q_cmd = plant, dt_s, 0.0, plant.q

    def tick(self, qd: Array = STILL) -> None:
        self.plant.step(self.q_cmd, qd, self.dt_s)
        self.time_s += self.dt_s

    def read(self) -> ArmState:
        return ArmState(self.plant.q, self.plant.fingers.opening_m, self.time_s)

    def make_ready(self) -> list[str]:
        return []

    def stop(self) -> None:
        raise NotImplementedError

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        self.plant.answer("phase", {"name": phase})
        times = np.append(np.arange(0.0, trajectory.duration_s, self.dt_s)[1:], trajectory.duration_s)
        q = np.stack([np.interp(times, trajectory.times_s, joint) for joint in trajectory.positions.T], axis=1)
        rates = np.gradient(q, times, axis=0)
        for self.q_cmd, rate in zip(q, rates, strict=True):
            self.tick(rate)
        self.rest(0.15)
        return MotionResult(True, self.read(), float(np.abs(self.plant.q - self.q_cmd).max()))

    def grip(self, width_m: float, phase: str, force_n: float = 100.0) -> MotionResult:
        self.plant.answer("phase", {"name": phase})
        self.plant.drive_fingers(width_m, force_n, speed_m_s=0.15)
        assert self.plant.fingers.moving
        self.rest_until(lambda: not self.plant.fingers.moving, 3.0)
        return MotionResult(True, self.read())

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        self.plant.answer("phase", {"name": phase})
        self.rest(duration_s)
        return MotionResult(True, self.read())

    def rest(self, duration_s: float) -> None:
        for _ in range(round(duration_s / self.dt_s)):
            self.tick()

    def rest_until(self, done: Callable[[], bool], most_s: float) -> None:
        start_s = self.time_s
        while not done():
            self.tick()
            assert self.time_s - start_s < most_s


def contacts(plant: ScenePlant) -> dict[str, PhaseLog]:
    """As a client gets them: through JSON."""
    log = json.loads(json.dumps(plant.answer("log", {})))["log"]
    return {name: PhaseLog.from_json(record) for name, record in log.items()}


@dataclass(frozen=True)
class Lifted:
    """One grasp, executed by the simulated arm and by a plant, which holds the object now."""

    task: Task
    view: SceneView
    direct: Verdict
    plant: ScenePlant
    arm: SteppedArm
    report: ExecutionReport
    weight_n: float


@pytest.fixture(scope="module")
def lifted() -> Iterator[Lifted]:
    plant = ScenePlant(SCENE, SEED)
    with SimCell(sample_scene(SCENE, SEED)) as cell, SceneView(cell.scene, cell.model) as view:
        try:
            task = plan_with_truth(cell)
        except AffordAgentError as error:
            if "OpenGL" not in str(error):
                raise
            pytest.skip(str(error))
        cell.gold = task.gold
        view.remember(plant.answer("snapshot", {})["qpos"])
        np.testing.assert_array_equal(plant.answer("snapshot", {})["qpos"], cell.data.qpos)
        execute(cell.arm, task.plan)
        direct = cell.judge(task.plan, task.mask, task.query)
        arm = SteppedArm(plant)
        report = execute(arm, task.plan)
        weight_n = 9.81 * float(cell.model.body(task.target).subtreemass[0])
        yield Lifted(task, view, direct, plant, arm, report, weight_n)


def test_a_grasp_ends_as_the_simulated_arms_does(lifted: Lifted) -> None:
    task = lifted.task
    verdict = lifted.view.judge(contacts(lifted.plant), task.mask, task.query, task.gold)
    assert verdict.success
    assert verdict.checks == lifted.direct.checks
    for name, tolerance in {"slip_m": 5e-4, "lift_m": 1e-3, "rotation_rad": 0.02, "part_share": 0.05}.items():
        assert verdict.measured[name] == pytest.approx(lifted.direct.measured[name], abs=tolerance), name
    assert lifted.report.max_error_rad < 0.01


def test_feels_the_weight_of_what_it_holds(lifted: Lifted) -> None:
    lifted.arm.rest(0.3)
    np.testing.assert_allclose(lifted.plant.tcp_force_n, [0, 0, -lifted.weight_n], atol=0.1)


def test_the_state_is_the_truth(lifted: Lifted) -> None:
    snapshot = json.loads(json.dumps(lifted.plant.answer("snapshot", {})))
    assert snapshot["scene"] == {"name": SCENE, "seed": SEED} == lifted.plant.scene
    with SceneView(lifted.view.scene, lifted.view.model) as now:
        now.remember(snapshot["qpos"])
        poses = contacts(lifted.plant)["hold"].T_base_body
        (thing,) = (t for t in now.truth() if t.name == lifted.task.target)
        np.testing.assert_allclose(thing.T_base_object, poses[lifted.task.target], atol=1e-3)
        with pytest.raises(ValueError, match=r"scene mixed has"):
            now.remember(np.zeros(3))


def test_told_to_stay_the_fingers_keep_what_they_hold(lifted: Lifted) -> None:
    """The URCap's `GTO 0`: the target is where they are."""
    plant = lifted.plant
    held_m = plant.fingers.opening_m
    plant.drive_fingers(held_m, 20.0, 0.15)
    lifted.arm.rest(0.5)
    assert plant.fingers.opening_m == pytest.approx(held_m, abs=2e-4)
    assert plant.tcp_force_n[2] == pytest.approx(-lifted.weight_n, abs=0.1)


@pytest.fixture(scope="module")
def plant() -> ScenePlant:
    return ScenePlant()


class TestEmpty:
    @pytest.fixture
    def arm(self, plant: ScenePlant) -> SteppedArm:
        plant.answer("scene", {"name": "empty", "seed": 0})
        return SteppedArm(plant)

    def test_waits_at_rest_with_open_fingers(self, arm: SteppedArm) -> None:
        np.testing.assert_allclose(arm.plant.q, LOOK_Q, atol=1e-3)
        assert arm.plant.fingers.opening_m == pytest.approx(0.085, abs=1e-3)
        assert not arm.plant.fingers.moving
        arm.rest(0.2)
        assert np.abs(arm.plant.qd).max() < 1e-3
        np.testing.assert_allclose(arm.plant.tcp_force_n, 0, atol=1e-6)

    def test_a_tick_of_either_series_is_as_long_as_it_says(self, arm: SteppedArm) -> None:
        rate = np.array([0.5, 0, 0, 0, 0, 0])
        for dt_s in (0.002, 0.008):
            arm.dt_s, start = dt_s, arm.plant.q
            for _ in range(round(0.4 / dt_s)):
                arm.q_cmd = arm.q_cmd + rate * dt_s
                arm.tick(rate)
            assert arm.plant.q[0] - start[0] == pytest.approx(0.2, abs=0.02)
            assert arm.plant.qd[0] == pytest.approx(0.5, abs=0.03)

    @pytest.mark.parametrize("speed_m_s", [0.05, 0.15])
    def test_fingers_keep_to_their_speed(self, arm: SteppedArm, speed_m_s: float) -> None:
        arm.plant.drive_fingers(0.02, 50.0, speed_m_s)
        arm.rest_until(lambda: arm.plant.fingers.opening_m < 0.07, 3.0)  # they lag 0.1 s behind at first
        start_s = arm.time_s
        arm.rest_until(lambda: arm.plant.fingers.opening_m < 0.05, 3.0)
        assert 0.02 / (arm.time_s - start_s) == pytest.approx(speed_m_s, rel=0.15)
        arm.rest_until(lambda: not arm.plant.fingers.moving, 3.0)
        assert arm.plant.fingers.opening_m == pytest.approx(0.02, abs=0.002)

    def test_trembling_fingers_are_at_rest(self, arm: SteppedArm) -> None:
        """As on springy objects: fast, but nowhere."""
        arm.plant.drive_fingers(0.06, 50.0, 0.15)
        arm.rest_until(lambda: not arm.plant.fingers.moving, 3.0)
        drivers = arm.plant._joints._drivers
        for k in range(200):
            arm.plant._data.qvel[drivers] += 0.1 if k % 2 else -0.1
            arm.tick()
            assert not arm.plant.fingers.moving

    def test_place(self, arm: SteppedArm) -> None:
        arm.plant.place(READY_Q)
        np.testing.assert_array_equal(arm.plant.q, READY_Q)
        arm.q_cmd = READY_Q
        arm.rest(0.1)
        np.testing.assert_allclose(arm.plant.q, READY_Q, atol=1e-3)

    @pytest.mark.parametrize(
        ("op", "request_", "message"),
        [
            ("object", {}, "knows scene, snapshot, phase, log"),
            ("scene", {"name": "nowhere", "seed": 0}, "nowhere"),
            ("scene", {"name": "mixed", "seed": -1}, "seed = -1"),
            ("phase", {}, "name = None"),
        ],
    )
    def test_refuses_what_it_does_not_know(self, plant: ScenePlant, op: str, request_: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            plant.answer(op, request_)


def test_presses_as_told(lifted: Lifted) -> None:
    """The last test of this file that needs the object in the hand: it is gripped anew, gently, then fully."""
    pressed_n = []
    for force_n in (22.0, 44.0, 235.0):
        lifted.arm.grip(0.0, f"press {force_n}", force_n)
        lifted.arm.wait(0.2, f"pressing {force_n}")
        log = contacts(lifted.plant)[f"pressing {force_n}"]
        pressed_n.append(sum(log.pads_n.values()) / log.samples / 2)
    assert pressed_n[0] == pytest.approx(22, rel=0.35)
    assert pressed_n[1] == pytest.approx(44, rel=0.35)
    assert pressed_n[2] == pytest.approx(pressed_n[1], rel=0.05)


@pytest.mark.parametrize("name", ["UR3", "UR10e"])
def test_other_arms_are_where_their_kinematics_say(name: ArmName) -> None:
    arm = SteppedArm(ScenePlant(arm=name), 0.002 if ARMS[name].is_e_series else 0.008)
    goal = arm.plant.q + [0.4, -0.1, 0.1, 0.2, 0.2, 0.3]
    arm.follow(JointTrajectory(np.stack([arm.plant.q, goal]), np.array([0.0, 1.0])), "go")
    arm.rest(0.5)
    np.testing.assert_allclose(arm.plant.q, goal, atol=2e-3)
    tcp = contacts(arm.plant)["go"].T_base_body["tcp"]
    np.testing.assert_allclose(tcp, flange_pose(name, arm.plant.q) @ T_FLANGE_TCP, atol=2e-3)
    assert contacts(arm.plant)["go"].table_force_n == 0
