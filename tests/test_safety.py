"""The safety layer: whatever is asked of it, nothing beyond the limits reaches the arm below it, and nothing raises.

What reached the arm is judged by Denavit-Hartenberg parameters and dense sampling, not by the layer's own code.
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from test_motion import BAR, GRASP, cloud

from affordagent.agent.settings import Settings
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import JointTrajectory
from affordagent.robot.arms import ALPHA_RAD, ARMS
from affordagent.robot.interface import LOOK_Q, READY_Q, ArmState, MotionResult
from affordagent.robot.kinematics import JOINT_LIMIT_RAD, ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.safety import SafeArm
from affordagent.tools.motion.plan_grasp import plan_grasp
from affordagent.tools.motion.trajectory import cartesian_motion, joint_motion

TCP_M = 0.1638  # from the flange
CONTROL_S = 0.008
ZONE = ((0.35, 0.1, 0.0), (0.6, 0.4, 0.5))
LIMITS = MotionLimits(keep_out_m=(ZONE,), workspace_max_m=(0.8, 0.7, 1.0), tcp_speed_m_s=0.6, tcp_force_n=50.0)
KINEMATICS = ArmKinematics()


class RecordingArm:
    """Keeps what it is told and does it at once. between_m: width of what is between the fingers."""

    between_m = 0.0

    def __init__(self, q: Array = LOOK_Q, width_m: float = 0.05, force_n: Array | None = None) -> None:
        self.state = ArmState(np.array(q, float), width_m, 0.0, tcp_force_n=force_n)
        self.sent: list[tuple[str, object]] = []
        self.failure: StageFailure | None = None

    def make_ready(self) -> list[str]:
        return ["mended"]

    def read(self) -> ArmState:
        if self.failure is not None:
            raise self.failure
        return self.state

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        self.sent.append(("follow", trajectory))
        self.state = replace(self.state, positions=trajectory.positions[-1])
        return MotionResult(True, self.state)

    def grip(self, width_m: float, phase: str) -> MotionResult:
        self.sent.append(("grip", width_m))
        self.state = replace(self.state, gripper_width_m=max(self.between_m, width_m))
        return MotionResult(True, self.state)

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        self.sent.append(("wait", duration_s))
        return MotionResult(True, self.state)

    def stop(self) -> None:
        self.sent.append(("stop", None))


def over(arm: RecordingArm, limits: MotionLimits = LIMITS) -> SafeArm:
    return SafeArm(arm, limits, KINEMATICS)


def points_of_arm(q: Array) -> Array:
    """(K, 6) -> (K, 6, 3) elbow, three wrists, flange and tcp of a UR5e."""
    facts = ARMS["UR5e"]
    T, found = np.broadcast_to(np.eye(4), (len(q), 4, 4)), []
    for j, (a, d, alpha) in enumerate(zip(facts.a_m, facts.d_m, ALPHA_RAD, strict=True)):
        s, c, zero = np.sin(q[:, j]), np.cos(q[:, j]), np.zeros(len(q))
        sa, ca = np.sin(alpha), np.cos(alpha)
        rows = [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [zero, zero + sa, zero + ca, zero + d]]
        step = np.array([*rows, [zero, zero, zero, zero + 1]]).transpose(2, 0, 1)
        T = T @ step
        found.append(T[:, :3, 3])
    return np.stack([*found[1:], T[:, :3, 3] + TCP_M * T[:, :3, 2]], axis=1)


def at(trajectory: JointTrajectory, times_s: Array) -> Array:
    return np.stack([np.interp(times_s, trajectory.times_s, joint) for joint in trajectory.positions.T], axis=1)


def assert_harmless(sent: list[tuple[str, object]], start: Array, limits: MotionLimits) -> None:
    for kind, what in sent:
        if kind == "grip":
            assert 0 <= what <= 0.085
        elif kind == "wait":
            assert 0 <= what <= limits.motion_s
        elif isinstance(what, JointTrajectory):
            assert np.abs(what.positions[0] - start).max() <= 0.05
            assert_harmless_motion(what, limits)
            start = what.positions[-1]


def assert_harmless_motion(motion: JointTrajectory, limits: MotionLimits) -> None:
    assert motion.times_s[-1] <= limits.motion_s
    dense = at(motion, np.arange(0, motion.duration_s, 0.002))
    assert (np.abs(dense) <= JOINT_LIMIT_RAD + 1e-9).all()
    sampled = at(motion, np.arange(-2 * CONTROL_S, motion.duration_s + 3 * CONTROL_S, CONTROL_S))  # rest on both sides
    speed = np.abs(np.diff(sampled, axis=0)) / CONTROL_S
    acceleration = np.abs(np.diff(sampled, 2, axis=0)) / CONTROL_S**2
    assert speed.max() <= limits.joint_speed_rad_s * 1.001
    assert acceleration.max() <= limits.joint_acceleration_rad_s2 * 1.13  # set-points fall between those of the motion
    points = points_of_arm(dense)
    assert np.linalg.norm(np.diff(points[:, -1], axis=0), axis=1).max(initial=0) / 0.002 <= limits.tcp_speed_m_s * 1.01
    slack = 0.005  # the tcp is 4 mm beyond the open fingers
    assert (points >= np.array(limits.workspace_min_m) - slack).all()
    assert (points <= np.array(limits.workspace_max_m) + slack).all()
    assert points[..., 2].min() >= limits.table_z_m - limits.table_tolerance_m - slack
    for lower, upper in limits.keep_out_m:
        inside = (points > np.array(lower) + slack) & (points < np.array(upper) - slack)
        assert not inside.all(axis=2).any()


def line(start: Array, shift_m: list[float], limits: MotionLimits) -> JointTrajectory | None:
    """The tcp straight from a posture; None out of reach."""
    T, joints, length_m = KINEMATICS.forward(start), [np.array(start)], float(np.linalg.norm(shift_m))
    count = max(2, math.ceil(length_m / 0.005))
    for _ in range(count):
        T[:3, 3] += np.array(shift_m) / count
        q = KINEMATICS.refine(T, joints[-1])
        if q is None:
            return None
        joints.append(q)
    return cartesian_motion(np.stack(joints), length_m, limits)


NUMBERS = st.floats(width=64)
FAST = MotionLimits(joint_speed_rad_s=3.0, joint_acceleration_rad_s2=15.0, motion_s=100.0)
POSTURES = arrays(float, 6, elements=st.floats(-6.5, 6.5))
NEAR = arrays(float, 6, elements=st.floats(-1.5, 1.5)).map(lambda d: LOOK_Q + d)
WILD = st.builds(
    JointTrajectory,
    arrays(float, array_shapes(min_dims=1, max_dims=3, max_side=8), elements=NUMBERS)
    | arrays(float, (4, 6), elements=NUMBERS),
    arrays(float, array_shapes(max_dims=2, max_side=8), elements=NUMBERS) | st.just(np.arange(4.0)),
)


@st.composite
def jagged(draw: st.DrawFn) -> JointTrajectory:
    steps = draw(arrays(float, st.tuples(st.integers(1, 30), st.just(6)), elements=st.floats(-0.02, 0.02)))
    gaps = draw(arrays(float, len(steps), elements=st.floats(1e-4, 2.0)))
    positions = LOOK_Q + np.concatenate([np.zeros((1, 6)), np.cumsum(draw(st.floats(0.01, 3.0)) * steps, axis=0)])
    return JointTrajectory(positions, np.concatenate([[0.0], np.cumsum(gaps)]))


@st.composite
def smooth(draw: st.DrawFn) -> JointTrajectory:
    """Well-timed motions of any size, within the limits or up to six times as fast."""
    path = [LOOK_Q, *draw(st.lists(NEAR | POSTURES, min_size=1, max_size=2))]
    motion = joint_motion(np.stack(path), draw(st.sampled_from([LIMITS, FAST])))
    return JointTrajectory(motion.positions, motion.times_s * draw(st.sampled_from([1.0, 0.999, 0.5, 1.5])))


class TestWhatReachesTheArm:
    @settings(max_examples=150, deadline=None)
    @given(WILD | jagged())
    def test_of_anything_at_all(self, trajectory: JointTrajectory) -> None:
        arm = RecordingArm()
        result = over(arm).follow(trajectory, "phase")
        assert_harmless(arm.sent, LOOK_Q, LIMITS)
        assert result.reached == bool(arm.sent)
        assert result.reached or (result.code and result.message)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(smooth(), min_size=1, max_size=2))
    def test_of_smooth_motions(self, motions: list[JointTrajectory]) -> None:
        arm = RecordingArm()
        safe = over(arm)
        for motion in motions:
            safe.follow(motion, "phase")
        assert_harmless(arm.sent, LOOK_Q, LIMITS)

    @settings(max_examples=60, deadline=None)
    @given(arrays(float, 3, elements=st.floats(-0.5, 0.5)), st.sampled_from([LIMITS, FAST]), st.floats(0, 0.085))
    def test_of_straight_motions(self, shift_m: Array, timed: MotionLimits, width_m: float) -> None:
        motion = line(READY_Q, shift_m.tolist(), timed)
        if motion is not None:
            arm = RecordingArm(READY_Q, width_m)
            over(arm).follow(motion, "phase")
            assert_harmless(arm.sent, READY_Q, LIMITS)

    @given(NUMBERS | st.integers() | st.none() | st.text(), NUMBERS | st.integers() | st.none())
    def test_of_grips_and_waits(self, width_m: float, duration_s: float) -> None:
        arm = RecordingArm()
        safe = over(arm)
        for result in (safe.grip(width_m, "grip"), safe.wait(duration_s, "wait")):
            assert result.reached or result.code == "safety.malformed"
        assert_harmless(arm.sent, LOOK_Q, LIMITS)

    def test_of_things_that_are_no_arrays(self) -> None:
        arm = RecordingArm()
        for positions, times_s in ((None, None), ([["a"] * 6] * 2, [0, 1]), ([[0] * 6, [0] * 5], [0, 1])):
            result = over(arm).follow(JointTrajectory(positions, times_s), "phase")  # type: ignore[arg-type]
            assert result.code == "safety.malformed"
        assert not arm.sent

    def test_is_a_copy_of_what_was_checked(self) -> None:
        arm, motion = RecordingArm(), joint_motion(np.stack([LOOK_Q, LOOK_Q + 0.1]), LIMITS)
        assert over(arm).follow(motion, "phase").reached
        motion.positions[:] = 9.0
        assert_harmless(arm.sent, LOOK_Q, LIMITS)


def refusal(motion: JointTrajectory | None, limits: MotionLimits = LIMITS, q: Array | None = None) -> MotionResult:
    assert motion is not None
    arm = RecordingArm(motion.positions[0] if q is None else q)
    result = over(arm, limits).follow(motion, "phase")
    assert not arm.sent
    assert not result.reached
    return result


class TestRefusals:
    """Each names its value and its limit."""

    def test_planned_motions_pass(self) -> None:
        arm = RecordingArm(READY_Q)
        safe = over(arm, replace(LIMITS, keep_out_m=()))
        down = line(READY_Q, [0, 0, -0.2], LIMITS)
        assert down is not None
        assert safe.follow(down, "down").reached
        assert safe.grip(0.02, "close").reached
        assert safe.follow(JointTrajectory(down.positions[::-1], down.times_s), "up").reached
        assert safe.follow(joint_motion(np.stack([READY_Q, LOOK_Q]), LIMITS), "back").reached
        assert [kind for kind, _ in arm.sent] == ["follow", "grip", "follow", "follow"]

    def test_below_the_table(self) -> None:
        height_m = KINEMATICS.forward(READY_Q)[2, 3]
        result = refusal(line(READY_Q, [0, 0, -height_m - 0.02], LIMITS), replace(LIMITS, keep_out_m=()))
        assert result.code == "safety.table"
        assert "limit -0.009" in result.message
        higher = replace(LIMITS, keep_out_m=(), table_z_m=0.1)
        assert refusal(line(READY_Q, [0, 0, 0.06 - height_m], LIMITS), higher).code == "safety.table"

    def test_into_a_zone(self) -> None:
        result = refusal(joint_motion(np.stack([READY_Q, READY_Q - [-0.5, 0, 0, 0, 0, 0]]), LIMITS))
        assert result.code == "safety.keep_out"
        assert str(ZONE[0]) in result.message

    def test_out_of_the_workspace(self) -> None:
        small = replace(LIMITS, workspace_min_m=(-0.5, -0.65, -0.05))
        result = refusal(joint_motion(np.stack([LOOK_Q, LOOK_Q - [0, -0.9, 1.2, 0, 0, 0]]), LIMITS), small)
        assert result.code == "safety.workspace"
        assert "the workspace (-0.5, -0.65, -0.05) to (0.8, 0.7, 1.0) by 0." in result.message

    def test_beyond_a_joint(self) -> None:
        start = LOOK_Q - [0, 0, 0, 0, 0, 6.0]
        result = refusal(joint_motion(np.stack([start, start - [0, 0, 0, 0, 0, 0.5]]), LIMITS))
        assert result.code == "safety.joint_limit"
        assert "joint 5 would turn 6.500 rad" in result.message

    def test_too_fast(self) -> None:
        motion = joint_motion(np.stack([LOOK_Q, LOOK_Q + 0.3]), LIMITS)
        quick = JointTrajectory(motion.positions, 0.3 * motion.times_s)
        assert refusal(quick).code == "safety.joint_speed"
        assert "limit 1.050" in refusal(quick).message
        wrist = joint_motion(np.stack([LOOK_Q, LOOK_Q + [0, 0, 0, 0, 0, 0.01]]), LIMITS)
        assert refusal(JointTrajectory(wrist.positions, 0.6 * wrist.times_s)).code == "safety.joint_acceleration"

    def test_a_line_between_two_points_is_a_jerk(self) -> None:
        result = refusal(JointTrajectory(np.stack([LOOK_Q, LOOK_Q + 0.3]), np.array([0.0, 3.0])))
        assert result.code == "safety.joint_acceleration"
        assert "limit 2.000" in result.message

    def test_tcp_too_fast(self) -> None:
        motion = joint_motion(np.stack([LOOK_Q, LOOK_Q - [0.8, 0, 0, 0, 0, 0]]), LIMITS)
        result = refusal(motion, replace(LIMITS, tcp_speed_m_s=0.2))
        assert result.code == "safety.tcp_speed"
        assert "m/s" in result.message
        assert "limit 0.200" in result.message

    def test_straight_into_a_singularity(self) -> None:
        wide = MotionLimits(workspace_max_m=(1.4, 1.0, 1.5))
        out = line(READY_Q, [0.38, 0, 0], wide)
        assert refusal(out, replace(wide, min_manipulability=0.15)).code == "safety.singularity"
        through = joint_motion(np.stack([READY_Q, READY_Q + [0, 0, -1.55, 0, 0, 0]]), wide)
        assert over(RecordingArm(READY_Q), wide).check(through, 0.05) is None  # stretched out, but joint by joint

    def test_too_long(self) -> None:
        motion = joint_motion(np.stack([LOOK_Q, LOOK_Q + 0.1]), LIMITS.at_speed(0.01))
        result = refusal(motion)
        assert result.code == "safety.malformed"
        assert "limit motion_s = 30.0 s" in result.message

    def test_from_elsewhere(self) -> None:
        result = refusal(joint_motion(np.stack([LOOK_Q, LOOK_Q + 0.1]), LIMITS), q=LOOK_Q + 0.06)
        assert result.code == "execution.start_mismatch"
        assert "0.060 rad" in result.message


def test_plans_round_a_zone_pass() -> None:
    zone = ((0.2, -0.45, 0.0), (0.7, -0.25, 0.5))
    limits = MotionLimits(keep_out_m=(zone,), tcp_speed_m_s=0.3)
    plan = plan_grasp([GRASP], cloud(BAR), LOOK_Q, limits=limits)
    arm = RecordingArm()
    safe = over(arm, limits)
    for motion in (plan.to_pregrasp, plan.approach, plan.lift):
        assert safe.follow(motion, "phase").reached
    assert_harmless(arm.sent, LOOK_Q, limits)
    ignorant = plan_grasp([GRASP], cloud(BAR), LOOK_Q, limits=replace(limits, keep_out_m=()))
    assert refusal(ignorant.to_pregrasp, limits).code == "safety.keep_out"


class TestStateAndForces:
    MOTION = joint_motion(np.stack([LOOK_Q, LOOK_Q + 0.05]), LIMITS)

    def test_nothing_is_sent_on_a_stale_state(self) -> None:
        arm = RecordingArm()
        arm.state = replace(arm.state, age_s=1.5)
        for result in (over(arm).follow(self.MOTION, "go"), over(arm).grip(0.0, "close")):
            assert result.code == "execution.comms"
            assert "1.50 s old, limit 1.0 s" in result.message
        arm.failure = StageFailure("execute", "execution.comms", "the driver is gone")
        result = over(arm).follow(self.MOTION, "go")
        assert (result.code, result.message) == ("execution.comms", "the driver is gone")
        assert not arm.sent

    def test_a_pushed_arm_does_not_start(self) -> None:
        arm = RecordingArm(force_n=np.array([0.0, -51.0, 0.0]))
        result = over(arm).follow(self.MOTION, "go")
        assert result.code == "safety.force"
        assert "51 N" in result.message
        assert "limit 50 N" in result.message

    @pytest.mark.parametrize(("pull_n", "code"), [(-15.0, None), (-25.0, "safety.payload")])
    def test_what_hangs_on_the_gripper_is_weighed(self, pull_n: float, code: str | None) -> None:
        arm = RecordingArm(force_n=np.array([0.0, 0.0, 3.0]))
        arm.between_m = 0.01
        safe = over(arm)
        assert safe.follow(self.MOTION, "approach").reached
        touching_n = np.array([0.0, 0.0, 40.0])  # the fingertips are on the table
        arm.state = replace(arm.state, positions=self.MOTION.positions[0], tcp_force_n=touching_n)
        safe.grip(0.0, "close")
        arm.state = replace(arm.state, tcp_force_n=np.array([0.0, 0.0, 3.0 + pull_n]))
        result = safe.follow(self.MOTION, "lift")
        assert result.code == code
        assert code is None or "2.55 kg, limit payload_kg = 2.0" in result.message
        assert safe.wait(0.1, "hold").code == code
        safe.grip(0.08, "open")
        assert safe.wait(0.1, "after").reached  # it was put down

    def test_fingers_that_bump_on_the_way_down_weigh_nothing(self) -> None:
        arm = RecordingArm(width_m=0.085, force_n=np.zeros(3))
        safe = over(arm)
        safe.grip(0.03, "open")  # less far than before, and nothing was in the way
        arm.state = replace(arm.state, tcp_force_n=np.array([0.0, 0.0, 40.0]), gripper_width_m=0.032, holding=True)
        assert safe.follow(self.MOTION, "approach").reached

    def test_a_hand_that_tells_nothing_is_weighed_once_closed(self) -> None:
        arm = RecordingArm(width_m=math.nan, force_n=np.array([0.0, 0.0, -25.0]))
        safe = over(arm)
        arm.between_m = 0.085  # it opens fully or not at all
        safe.grip(0.03, "open")
        assert safe.wait(0.1, "rest").reached
        arm.between_m = math.nan
        safe.grip(0.0, "close")
        assert safe.wait(0.1, "hold").code == "safety.payload"

    def test_what_pushes_an_empty_gripper_is_not_weighed(self) -> None:
        arm = RecordingArm(force_n=np.zeros(3))
        safe = over(arm)
        safe.grip(0.05, "open")  # less far than before
        arm.state = replace(arm.state, tcp_force_n=np.array([0.0, 0.0, 30.0]), holding=False)
        assert safe.follow(self.MOTION, "approach").reached

    def test_a_stop_passes_while_a_motion_runs(self) -> None:
        stopped, began = threading.Event(), threading.Event()

        class Slow(RecordingArm):
            def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
                began.set()
                assert stopped.wait(10)
                return MotionResult(False, self.state, code="execution.stopped", message="stopped")

            def stop(self) -> None:
                stopped.set()

        safe, results = over(Slow()), list[MotionResult]()
        thread = threading.Thread(target=lambda: results.append(safe.follow(self.MOTION, "go")), daemon=True)
        thread.start()
        assert began.wait(10)
        safe.stop()
        thread.join(10)
        assert results[0].code == "execution.stopped"

    def test_the_rest_passes_through(self) -> None:
        arm = RecordingArm()
        assert over(arm).make_ready() == ["mended"]
        assert over(arm).read() is arm.state


def test_the_settings_in_the_docs_are_settings(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "safety.md").read_text()
    (tmp_path / "affordagent.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    limits = Settings.load(tmp_path / "affordagent.toml").limits
    assert len(limits.keep_out_m) == 2
    safe = over(RecordingArm(READY_Q), limits)
    assert safe.check(joint_motion(np.stack([READY_Q, LOOK_Q]), limits), 0.085) is None


def test_the_judge_of_these_tests_knows_the_arm() -> None:
    rng = np.random.default_rng(0)
    q = rng.uniform(-3, 3, (50, 6))
    tcp = np.array([KINEMATICS.forward(one)[:3, 3] for one in q])
    assert np.abs(points_of_arm(q)[:, -1] - tcp).max() < 0.002
