"""Kinematics, collisions, paths, timing and the plan of a grasp, on the real arm model and synthetic clouds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, rigid
from affordagent.core.types import Grasp, JointTrajectory, PartCloud
from affordagent.robot.interface import LOOK_Q, READY_Q
from affordagent.robot.kinematics import JOINT_LIMIT_RAD, ArmKinematics, unwrap
from affordagent.robot.limits import MotionLimits
from affordagent.tools.motion.collision import CollisionWorld
from affordagent.tools.motion.plan_grasp import plan_grasp
from affordagent.tools.motion.planner import edge_free, plan_path
from affordagent.tools.motion.trajectory import SAME_RAD, SAMPLE_S, cartesian_motion, joint_motion, reverse

LIMITS = MotionLimits()
NOTHING = np.zeros((0, 3))


@pytest.fixture(scope="module")
def arm() -> ArmKinematics:
    return ArmKinematics()


def top_down(x: float, y: float, z: float, yaw: float = 0.0, tilt: float = 0.0) -> Array:
    """A hand that points down, its closing axis turned by `yaw`, tilted about that axis."""
    closing = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    approach = np.array([np.sin(tilt) * np.cos(yaw), np.sin(tilt) * np.sin(yaw), -np.cos(tilt)])
    return rigid(np.stack([np.cross(closing, approach), closing, approach], axis=1), [x, y, z])


def box(lower: Array | list[float], upper: Array | list[float], spacing: float = 0.006) -> Array:
    """Points on a box's surface."""
    axes = [np.linspace(a, b, max(2, int((b - a) / spacing) + 1)) for a, b in zip(lower, upper, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    on_face = (np.isclose(points, lower) | np.isclose(points, upper)).any(axis=1)
    return points[on_face]


def cloud(obj: Array, obstacles: Array = NOTHING) -> PartCloud:
    normals = np.tile([0.0, 0.0, 1.0], (len(obj), 1))
    return PartCloud(obj, normals, obj, obstacles, 0.0, np.array([0.94, 0.0, 0.72]), 1.0)


BAR = box([0.4, -0.015, 0.0], [0.6, 0.015, 0.03])
GRASP = Grasp(top_down(0.5, 0.0, 0.015), 0.03, 0.9)

POSES = st.builds(
    top_down,
    st.floats(0.3, 0.6),
    st.floats(-0.35, 0.35),
    st.floats(0.02, 0.3),
    st.floats(-np.pi, np.pi),
    st.floats(-0.7, 0.7),
)


class TestKinematics:
    def test_looks_down_where_ready(self, arm: ArmKinematics) -> None:
        T = arm.forward(READY_Q)
        assert T[0, 3] > 0.2
        np.testing.assert_allclose(T[:3, 2], [0, 0, -1], atol=2e-3)

    @settings(max_examples=60, deadline=None)
    @given(POSES)
    def test_inverse_reaches_the_pose_with_every_branch(self, T_base_tcp: Array) -> None:
        arm = _ARM
        wrist_m = (T_base_tcp @ [0, 0, -0.26, 1])[:2]
        assume(np.linalg.norm(wrist_m) > 0.17)  # nearer to the shoulder's axis the arm is singular
        found = arm.inverse(T_base_tcp, READY_Q)
        assert found
        distances = [np.linalg.norm(q - READY_Q) for q in found]
        assert distances == sorted(distances)
        for q in found:
            assert (np.abs(q) <= JOINT_LIMIT_RAD).all()
            np.testing.assert_allclose(arm.forward(q), T_base_tcp, atol=3e-5)

    @settings(max_examples=60, deadline=None)
    @given(arrays(float, 6, elements=st.floats(-3, 3)))
    def test_inverse_of_forward_holds_the_joints(self, q: Array) -> None:
        if _ARM.manipulability(q) > 0.05:
            found = _ARM.inverse(_ARM.forward(q), q)
            assert min(np.abs(other - q).max() for other in found) < 1e-3

    @settings(deadline=None)
    @given(arrays(float, 6, elements=st.floats(-10, 10)), arrays(float, 6, elements=st.floats(-3, 3)))
    def test_unwrap_turns_whole_turns(self, q: Array, near: Array) -> None:
        turns = (unwrap(q, near) - q) / (2 * np.pi)
        np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)

    @settings(deadline=None)
    @given(
        arrays(float, 6, elements=st.floats(-3.1, 3.1)),
        arrays(float, 6, elements=st.floats(-1, 1)).map(lambda share: share * JOINT_LIMIT_RAD),
    )
    @example(np.zeros(6), -0.875 * JOINT_LIMIT_RAD)
    def test_unwrap_takes_the_nearest_turn_within_the_limits(self, q: Array, near: Array) -> None:
        turns = q + 2 * np.pi * np.arange(-2, 3)[:, None]
        gaps = np.where(np.abs(turns) <= JOINT_LIMIT_RAD + 1e-9, np.abs(turns - near), np.inf)
        np.testing.assert_allclose(np.abs(unwrap(q, near) - near), gaps.min(axis=0), atol=1e-6)

    @settings(max_examples=20, deadline=None)
    @given(POSES)
    def test_a_rotation_of_float32_is_as_good_as_an_exact_one(self, T_base_tcp: Array) -> None:
        rounded = T_base_tcp.astype(np.float32).astype(float)
        rounded[:3, 0] *= 1 + 1e-6
        assert len(_ARM.inverse(rounded, READY_Q)) == len(_ARM.inverse(T_base_tcp, READY_Q))

    def test_out_of_reach_has_no_solution(self, arm: ArmKinematics) -> None:
        assert arm.inverse(top_down(1.3, 0.0, 0.1), READY_Q) == []
        assert arm.reach_m(top_down(1.3, 0.0, 0.1)) > 1.0

    def test_stretched_arm_is_singular(self, arm: ArmKinematics) -> None:
        assert arm.manipulability(np.array([np.pi, -1.0, 0.0, -1.0, -1.5, 0.0])) < 0.01 < arm.manipulability(READY_Q)

    def test_fingers_open_as_told(self, arm: ArmKinematics) -> None:
        from affordagent.robot.model import opening_m

        for width in (0.0, 0.02, 0.05, 0.085):
            arm.set_opening(width)
            arm.forward(READY_Q)
            assert opening_m(arm.model, arm.data) == pytest.approx(width, abs=1e-3)


_ARM = ArmKinematics()  # hypothesis takes no fixtures of narrower scope


class TestCollisions:
    def world(self, obstacles: Array = NOTHING, target: Array = NOTHING) -> CollisionWorld:
        return CollisionWorld(ArmKinematics(), LIMITS, obstacles, target, 0.0, LOOK_Q)

    def test_free_where_it_waits(self) -> None:
        assert self.world().hit(LOOK_Q, 0.085) is None
        assert self.world().hit(READY_Q, 0.085) is None

    def test_table_self_and_workspace(self, arm: ArmKinematics) -> None:
        world = self.world()
        low = arm.inverse(top_down(0.5, 0, -0.02), READY_Q)[0]
        assert world.hit(low, 0.05) == "table"
        assert world.hit(np.array([np.pi, -1.57, 2.8, -1.27, -1.57, 0]), 0.05) == "self"
        low_ceiling = MotionLimits(workspace_max_m=(0.95, 0.85, 0.5))
        confined = CollisionWorld(ArmKinematics(), low_ceiling, NOTHING, NOTHING, 0.0, LOOK_Q)
        assert confined.hit(READY_Q, 0.05) == "workspace"

    def test_obstacle_and_the_space_below_it(self, arm: ArmKinematics) -> None:
        q = arm.inverse(top_down(0.5, 0, 0.05), READY_Q)[0]
        lid = box([0.45, -0.05, 0.12], [0.55, 0.05, 0.13])
        assert self.world().hit(q, 0.05) is None
        assert self.world(lid).hit(q, 0.05) == "obstacle"

    def test_fingers_straddle_the_target_only_when_open_enough(self, arm: ArmKinematics) -> None:
        q = arm.inverse(GRASP.T_base_tcp, READY_Q)[0]
        world = self.world(target=BAR)
        assert world.hit(q, 0.05, fingers_may_touch_target=True) is None
        assert world.hit(q, 0.03) == "target"
        walls = np.concatenate([box([0.4, y, 0.0], [0.6, y + 0.005, 0.08]) for y in (-0.075, 0.07)])
        assert self.world(walls).hit(q, 0.04) is None
        assert self.world(walls).hit(q, 0.085) == "obstacle"

    def test_the_arm_seen_by_the_camera_is_no_obstacle(self, arm: ArmKinematics) -> None:
        hand = arm.forward(LOOK_Q)[:3, 3]
        assert self.world(hand + box([-0.03] * 3, [0.03] * 3)).hit(LOOK_Q, 0.085) is None


class TestPaths:
    def test_straight_when_free(self) -> None:
        path = plan_path(LOOK_Q, READY_Q, lambda q: True, np.random.default_rng(0), 100)
        assert path is not None
        np.testing.assert_array_equal(path, [LOOK_Q, READY_Q])

    def test_round_a_wall_and_the_same_again(self) -> None:
        def free(q: Array) -> bool:
            return not (abs(q[0] - 2.3) < 0.2 and q[1] > -2.3)

        start, goal = READY_Q - [1.5, 0, 0, 0, 0, 0], READY_Q
        paths = [plan_path(start, goal, free, np.random.default_rng(3), 5000) for _ in range(2)]
        assert paths[0] is not None
        np.testing.assert_array_equal(paths[0], paths[1])
        assert len(paths[0]) > 2
        assert all(edge_free(a, b, free) for a, b in zip(paths[0][:-1], paths[0][1:], strict=True))

    def test_gives_up_when_its_checks_are_used(self) -> None:
        asked = 0

        def free(q: Array) -> bool:
            nonlocal asked
            asked += 1
            return np.abs(q - READY_Q).max() < 0.3

        assert plan_path(READY_Q, READY_Q + 1.0, free, np.random.default_rng(0), 300) is None
        assert asked < 1000


def derivatives(trajectory: JointTrajectory) -> tuple[Array, Array]:
    dt = np.diff(trajectory.times_s)
    speed = np.diff(trajectory.positions, axis=0) / dt[:, None]
    return speed, np.diff(speed, axis=0) / ((dt[1:] + dt[:-1]) / 2)[:, None]


def assert_within_limits(trajectory: JointTrajectory, limits: MotionLimits) -> None:
    speed, acceleration = derivatives(trajectory)
    assert trajectory.times_s[0] == 0
    assert (np.diff(trajectory.times_s) > 0).all()
    assert np.diff(trajectory.times_s).max() <= SAMPLE_S + 1e-9
    assert np.abs(speed).max(initial=0) <= limits.joint_speed_rad_s * (1 + 1e-6)
    assert np.abs(acceleration).max(initial=0) <= limits.joint_acceleration_rad_s2 * 1.01 + 1e-6
    still = limits.joint_acceleration_rad_s2 * SAMPLE_S
    assert np.abs(speed[[0, -1]]).max() <= still  # at rest within a sample


class TestTiming:
    @settings(max_examples=60, deadline=None)
    @given(
        arrays(float, st.tuples(st.integers(2, 6), st.just(6)), elements=st.floats(-3, 3)),
        st.floats(0.1, 3.0),
        st.floats(0.3, 10.0),
    )
    def test_joint_motions_keep_the_limits(self, waypoints: Array, speed: float, acceleration: float) -> None:
        limits = MotionLimits(joint_speed_rad_s=speed, joint_acceleration_rad_s2=acceleration)
        trajectory = joint_motion(waypoints, limits)
        assert_within_limits(trajectory, limits)
        np.testing.assert_array_equal(trajectory.positions[[0, -1]], waypoints[[0, -1]])
        for waypoint in waypoints:
            assert np.abs(trajectory.positions - waypoint).max(axis=1).min() <= SAME_RAD

    @settings(max_examples=25, deadline=None)
    @given(POSES, st.floats(0.05, 0.12), st.floats(0.02, 0.3))
    def test_straight_motions_keep_the_limits(self, T_base_tcp: Array, length_m: float, speed_m_s: float) -> None:
        limits = MotionLimits(approach_speed_m_s=speed_m_s)
        joints = [_ARM.inverse(T_base_tcp, READY_Q)[0]]
        count = int(length_m / 0.005) + 1
        for k in range(1, count + 1):
            T = T_base_tcp.copy()
            T[2, 3] += length_m * k / count
            q = _ARM.refine(T, joints[-1])
            if q is None:
                return
            joints.append(q)
        trajectory = cartesian_motion(np.stack(joints), length_m, limits)
        assert_within_limits(trajectory, limits)
        tcp = np.array([_ARM.forward(q)[:3, 3] for q in trajectory.positions[::5]])
        assert np.abs(tcp[:, :2] - T_base_tcp[:2, 3]).max() < 5e-4  # straight up
        assert np.diff(tcp[:, 2]).max(initial=0) <= speed_m_s * 5 * SAMPLE_S * 1.02
        np.testing.assert_array_equal(trajectory.positions[[0, -1]], [joints[0], joints[-1]])

    def test_reversed(self) -> None:
        forth = joint_motion(np.stack([LOOK_Q, READY_Q]), LIMITS)
        back = reverse(forth)
        np.testing.assert_array_equal(back.positions[0], READY_Q)
        assert back.times_s[0] == 0
        assert_within_limits(back, LIMITS)


class TestPlanGrasp:
    def check(self, plan_cloud: PartCloud, grasps: list[Grasp] | None = None) -> None:
        plan = plan_grasp(grasps or [GRASP], plan_cloud, LOOK_Q, limits=LIMITS)
        arm, T = ArmKinematics(), plan.grasp.T_base_tcp
        world = CollisionWorld(arm, LIMITS, plan_cloud.obstacles, plan_cloud.object, 0.0, LOOK_Q)
        np.testing.assert_array_equal(plan.to_pregrasp.positions[0], LOOK_Q)
        np.testing.assert_allclose(plan.approach.positions[0], plan.to_pregrasp.positions[-1], atol=1e-9)
        np.testing.assert_allclose(plan.lift.positions[0], plan.approach.positions[-1], atol=1e-9)
        at_grasp, above = (arm.forward(plan.lift.positions[i]) for i in (0, -1))
        np.testing.assert_allclose(at_grasp[:3, 3], T[:3, 3], atol=1e-4)
        assert abs(at_grasp[:3, 1] @ T[:3, 1]) == pytest.approx(1, abs=1e-4)  # the jaws may be swapped
        np.testing.assert_allclose(above[:3, 3] - at_grasp[:3, 3], [0, 0, LIMITS.lift_height_m], atol=1e-4)
        assert all(world.hit(q, plan.opening_m) is None for q in plan.to_pregrasp.positions[::4])
        for q in plan.approach.positions[::4]:
            assert world.hit(q, plan.opening_m, fingers_may_touch_target=True) is None
        assert plan.grasp.width_m < plan.opening_m <= 0.085
        for trajectory in (plan.to_pregrasp, plan.approach, plan.lift):
            assert_within_limits(trajectory, LIMITS)

    def test_a_bar_on_an_empty_table(self) -> None:
        self.check(cloud(BAR))

    def test_over_a_wall_between_the_arm_and_the_bar(self) -> None:
        self.check(cloud(BAR, box([0.2, -0.3, 0.0], [0.7, -0.26, 0.4], 0.01)))

    def test_same_arguments_same_plan(self) -> None:
        wall = cloud(BAR, box([0.2, -0.3, 0.0], [0.7, -0.26, 0.4], 0.01))
        first, second = (plan_grasp([GRASP], wall, LOOK_Q, limits=LIMITS) for _ in range(2))
        np.testing.assert_array_equal(first.to_pregrasp.positions, second.to_pregrasp.positions)

    def test_takes_the_next_grasp_and_says_why(self) -> None:
        too_low = Grasp(top_down(0.5, 0.0, -0.02), 0.03, 1.0)
        plan = plan_grasp([too_low, GRASP], cloud(BAR), LOOK_Q, limits=LIMITS)
        assert plan.grasp_index == 1
        assert [(r["grasp_index"], r["code"]) for r in plan.rejected] == [(0, "grasp.collides_surface")]

    @pytest.mark.parametrize(
        ("code", "grasp", "obstacles"),
        [
            ("grasp.unreachable", Grasp(top_down(1.1, 0.0, 0.1), 0.03, 0.9), NOTHING),
            ("grasp.collides_surface", Grasp(top_down(0.5, 0.0, -0.02), 0.03, 0.9), NOTHING),
            ("grasp.collides_scene", GRASP, box([0.35, -0.06, 0.0], [0.65, -0.022, 0.1])),
            ("scene.blocked", GRASP, box([0.42, -0.015, 0.05], [0.58, 0.015, 0.07])),
        ],
    )
    def test_typed_failures(self, code: str, grasp: Grasp, obstacles: Array) -> None:
        with pytest.raises(StageFailure) as caught:
            plan_grasp([grasp], cloud(BAR, obstacles), LOOK_Q, limits=LIMITS)
        assert (caught.value.stage, caught.value.code) == ("plan", code)

    def test_unreachable_names_the_reach(self) -> None:
        with pytest.raises(StageFailure, match=r"1\.\d\d m from the shoulder, the arm reaches at most 0\.92 m"):
            plan_grasp([Grasp(top_down(1.1, 0.0, 0.1), 0.03, 0.9)], cloud(BAR), LOOK_Q, limits=LIMITS)

    def test_arm_that_stands_in_the_table(self, arm: ArmKinematics) -> None:
        start = arm.inverse(top_down(0.5, 0, -0.05), READY_Q)[0]
        with pytest.raises(StageFailure) as caught:
            plan_grasp([GRASP], cloud(BAR), start, limits=LIMITS)
        assert caught.value.code == "planning.start_in_collision"

    @pytest.mark.parametrize(
        ("limits", "setting"),
        [
            (MotionLimits(workspace_max_m=(0.05, 0.85, 1.2)), "workspace_max_m"),
            (MotionLimits(keep_out_m=(((-0.2, -0.5, 0.3), (0.4, -0.2, 0.6)),)), "keep_out_m"),
        ],
    )
    def test_arm_that_stands_outside_of_its_limits_is_told_which(self, limits: MotionLimits, setting: str) -> None:
        with pytest.raises(StageFailure, match=rf"\[limits\].*{setting} in the settings") as caught:
            plan_grasp([GRASP], cloud(BAR), LOOK_Q, limits=limits)
        assert caught.value.code == "planning.start_in_collision"

    def test_no_path_through_a_wall_round_the_arm(self) -> None:
        wall = box([-0.5, -0.3, 0.0], [0.95, -0.29, 1.15], 0.02)  # the arm reaches through it where it waits
        with pytest.raises(StageFailure) as caught:
            plan_grasp([GRASP], cloud(BAR, wall), LOOK_Q, limits=MotionLimits(planning_checks=300))
        assert caught.value.code == "planning.no_path"

    def test_nothing_to_plan(self) -> None:
        with pytest.raises(StageFailure) as caught:
            plan_grasp([], cloud(BAR), LOOK_Q, limits=LIMITS)
        assert caught.value.code == "grasp.none"


class TestLimits:
    @pytest.mark.parametrize(
        "change",
        [
            {"joint_speed_rad_s": 4.0},
            {"joint_speed_rad_s": 0.0},
            {"lift_height_m": float("nan")},
            {"pregrasp_distances_m": ()},
            {"workspace_min_m": (1.0, 0.0, 0.0)},
            {"workspace_max_m": (np.inf, 1.0, 1.0)},
            {"keep_out_m": (((0.5, 0.0, 0.0), (0.4, 0.1, 0.1)),)},
            {"table_z_m": -0.2},
            {"table_z_m": float("nan")},
            {"tcp_speed_m_s": 1.5},
            {"approach_speed_m_s": 0.4, "tcp_speed_m_s": 0.3},
            {"gripper_force_n": 300.0},
            {"payload_kg": -1.0},
        ],
    )
    def test_refuses_what_makes_no_sense(self, change: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=next(iter(change))):
            MotionLimits(**change)  # type: ignore[arg-type]

    def test_the_arm_bounds_them(self) -> None:
        MotionLimits(joint_speed_rad_s=3.0).check_arm("UR5e", 0.95)
        with pytest.raises(ValueError, match=r"joint_speed_rad_s = 3.0 .* UR10's 2.09"):
            MotionLimits(joint_speed_rad_s=3.0).check_arm("UR10", 0.95)
        with pytest.raises(ValueError, match=r"payload_kg = 2.5 .* UR3e's 3.0 kg"):
            MotionLimits(payload_kg=2.5).check_arm("UR3e", 0.95)

    def test_share_of_the_speed_stretches_time(self) -> None:
        whole, tenth = (joint_motion(np.stack([LOOK_Q, READY_Q]), LIMITS.at_speed(share)) for share in (1.0, 0.1))
        assert tenth.duration_s == pytest.approx(10 * whole.duration_s, rel=1e-3)
        assert LIMITS.at_speed(1.0) == LIMITS
        for share in (0.0, 1.1, float("nan")):
            with pytest.raises(ValueError, match="speed"):
                LIMITS.at_speed(share)
