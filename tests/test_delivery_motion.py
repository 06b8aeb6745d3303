"""What follows the lift: carried, put down and let go, with the object in the hand, on synthetic clouds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, invert, rigid, transform_points
from affordagent.core.types import DeliveryGoal, Grasp, GraspPlan, PartCloud
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.kinematics import ArmKinematics, chain_of
from affordagent.robot.limits import MotionLimits
from affordagent.robot.safety import SafeArm
from affordagent.tools.motion.collision import CollisionWorld
from affordagent.tools.motion.plan_grasp import plan_grasp

LIMITS = MotionLimits()
NOTHING = np.zeros((0, 3))


def top_down(x: float, y: float, z: float, yaw: float = 0.0) -> Array:
    closing, approach = np.array([-np.sin(yaw), np.cos(yaw), 0.0]), np.array([0.0, 0.0, -1.0])
    return rigid(np.stack([np.cross(closing, approach), closing, approach], axis=1), [x, y, z])


def box(lower: list[float], upper: list[float], spacing: float = 0.005) -> Array:
    """Points on a box's surface."""
    axes = [np.linspace(a, b, max(2, int((b - a) / spacing) + 1)) for a, b in zip(lower, upper, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return points[(np.isclose(points, lower) | np.isclose(points, upper)).any(axis=1)]


def tray(x: float, y: float, half: float, height: float) -> Array:
    """An open box: four walls and a floor 4 mm thick."""
    walls = [
        box([x - half, y - half, 0], [x + half, y - half + 0.006, height]),
        box([x - half, y + half - 0.006, 0], [x + half, y + half, height]),
        box([x - half, y - half, 0], [x - half + 0.006, y + half, height]),
        box([x + half - 0.006, y - half, 0], [x + half, y + half, height]),
    ]
    return np.concatenate([*walls, box([x - half, y - half, 0], [x + half, y + half, 0.004])])


def cloud(obj: Array, obstacles: Array) -> PartCloud:
    normals = np.tile([0.0, 0.0, 1.0], (len(obj), 1))
    return PartCloud(obj, normals, obj, obstacles, 0.0, np.array([0.94, 0.0, 0.72]), 1.0)


def shift(x: float, y: float, z: float, yaw: float = 0.0, about: tuple[float, float] = (0.5, 0.0)) -> Array:
    """A move: turned by `yaw` about a vertical axis, then shifted."""
    c, s = np.cos(yaw), np.sin(yaw)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    centre = np.array([*about, 0.0])
    return rigid(R, centre - R @ centre + [x, y, z])


BAR = box([0.44, -0.015, 0.0], [0.56, 0.015, 0.04])
GRASP = Grasp(top_down(0.5, 0.0, 0.025), 0.03, 0.9)
TRAY = tray(0.5, 0.28, 0.11, 0.08)
INTO_TRAY = DeliveryGoal("place", np.stack([shift(0, 0.28, 0.006)]), TRAY)


def held_at(plan: GraspPlan, obj: Array, q: Array) -> Array:
    """The object's points when the hand that grasped it is at (6,) `q`."""
    chain = chain_of("UR5e")
    T_base_grasp, T_base_tcp = chain.tcp(chain.links(np.stack([plan.approach.positions[-1], q])))
    return transform_points(T_base_tcp @ invert(T_base_grasp), obj)


def check_safe(plan: GraspPlan, limits: MotionLimits = LIMITS) -> None:
    """The safety layer would send every motion, each of which begins where the last one ended."""
    safe, d = SafeArm(None, limits, ArmKinematics()), plan.delivery  # type: ignore[arg-type]
    assert d is not None
    width_m = plan.grasp.width_m
    motions = [
        (plan.to_pregrasp, plan.opening_m),
        (plan.approach, plan.opening_m),
        (plan.lift, width_m),
        (d.carry, width_m),
        *([(d.lower, width_m)] if d.lower is not None else []),
        (d.retreat, d.opening_m),
    ]
    for (motion, opening_m), (following, _) in zip(motions, [*motions[1:], motions[-1]], strict=True):
        assert safe.check(motion, opening_m) is None
        if following is not motion:
            np.testing.assert_allclose(motion.positions[-1], following.positions[0], atol=1e-9)


class TestPlace:
    def test_into_a_tray(self) -> None:
        plan = plan_grasp([GRASP], cloud(BAR, TRAY), LOOK_Q, limits=LIMITS, delivery=INTO_TRAY)
        check_safe(plan)
        d, arm = plan.delivery, ArmKinematics()
        assert d is not None
        assert d.lower is not None
        assert (d.kind, d.move_index) == ("place", 0)
        np.testing.assert_allclose(arm.forward(d.lower.positions[-1]), d.T_base_tcp, atol=1e-4)
        np.testing.assert_allclose(held_at(plan, BAR, d.lower.positions[-1]), BAR + [0, 0.28, 0.006], atol=3e-4)
        lowered = np.array([arm.forward(q)[:3, 3] for q in d.lower.positions[::10]])
        assert np.abs(lowered[:, :2] - d.T_base_tcp[:2, 3]).max() < 1e-3
        assert (np.diff(lowered[:, 2]) <= 1e-6).all()
        assert held_at(plan, BAR, d.lower.positions[0])[:, 2].min() > 0.08  # above the walls
        back = arm.forward(d.retreat.positions[-1])[:3, 3] - d.T_base_tcp[:3, 3]
        np.testing.assert_allclose(back / np.linalg.norm(back), -d.T_base_tcp[:3, 2], atol=5e-3)
        assert plan.grasp.width_m < d.opening_m <= plan.opening_m

    def test_what_is_carried_passes_over_a_wall(self) -> None:
        wall = box([0.35, 0.12, 0.0], [0.65, 0.13, 0.24])
        goal = DeliveryGoal("place", np.stack([shift(0, 0.30, 0.0)]), NOTHING)
        plan = plan_grasp([GRASP], cloud(BAR, wall), LOOK_Q, limits=LIMITS, delivery=goal)
        check_safe(plan)
        assert plan.delivery is not None
        tops = [held_at(plan, BAR, q) for q in plan.delivery.carry.positions[::3]]
        for points in tops:
            over = (np.abs(points[:, 0] - 0.5) < 0.16) & (points[:, 1] > 0.12) & (points[:, 1] < 0.13)
            assert points[over, 2].min(initial=1.0) > 0.24

    def test_next_move_where_the_first_is_taken(self) -> None:
        block = box([0.42, 0.24, 0.0], [0.58, 0.36, 0.05])
        moves = np.stack([shift(0, 0.30, 0.0), shift(0, -0.30, 0.0)])
        goal = DeliveryGoal("place", moves, NOTHING)
        plan = plan_grasp([GRASP], cloud(BAR, block), LOOK_Q, limits=LIMITS, delivery=goal)
        assert plan.delivery is not None
        assert plan.delivery.move_index == 1

    def test_on_top_of_something(self) -> None:
        stand = box([0.35, 0.2, 0.0], [0.6, 0.38, 0.10])
        goal = DeliveryGoal("place", np.stack([shift(0, 0.29, 0.10)]), stand)
        plan = plan_grasp([GRASP], cloud(BAR, stand), LOOK_Q, limits=LIMITS, delivery=goal)
        check_safe(plan)

    def test_same_arguments_same_plan(self) -> None:
        first, second = (
            plan_grasp([GRASP], cloud(BAR, TRAY), LOOK_Q, limits=LIMITS, delivery=INTO_TRAY).delivery for _ in range(2)
        )
        assert first is not None
        assert second is not None
        np.testing.assert_array_equal(first.carry.positions, second.carry.positions)

    @pytest.mark.parametrize(
        ("move", "inside", "reason"),
        [
            (shift(0.0, 0.28, -0.03), TRAY, "does not fit"),  # through the tray's floor
            (shift(0.0, 0.39, 0.006), TRAY, "does not fit"),  # on its wall
            (shift(0.0, 0.28, 0.006), NOTHING, "does not fit"),  # the tray is in the way
            (shift(0.6, 0.28, 0.0), NOTHING, "out of reach"),
        ],
    )
    def test_typed_failures(self, move: Array, inside: Array, reason: str) -> None:
        goal = DeliveryGoal("place", np.stack([move]), inside)
        with pytest.raises(StageFailure) as caught:
            plan_grasp([GRASP], cloud(BAR, TRAY), LOOK_Q, limits=LIMITS, delivery=goal)
        assert (caught.value.stage, caught.value.code) == ("plan", "planning.no_delivery")
        assert any(reason in why for why in caught.value.evidence["no_delivery"])

    def test_grasps_that_fail_earlier_keep_their_reason(self) -> None:
        away = Grasp(top_down(1.1, 0.0, 0.1), 0.03, 0.9)
        with pytest.raises(StageFailure) as caught:
            plan_grasp([away], cloud(BAR, TRAY), LOOK_Q, limits=LIMITS, delivery=INTO_TRAY)
        assert caught.value.code == "grasp.unreachable"


class TestLift:
    """What its mask left out of a thing does not hold it back."""

    WALLS = tray(0.5, 0.0, 0.06, 0.05)[tray(0.5, 0.0, 0.06, 0.05)[:, 2] > 0.004]

    def lifted_past(self, obstacles: Array) -> Array:
        """(M, 3) of the obstacles that count while the bowl is lifted."""
        world = CollisionWorld(ArmKinematics(), LIMITS, obstacles, self.WALLS, 0.0, LOOK_Q)
        return world.lifting().obstacles.points

    def test_amid_it_and_no_higher(self) -> None:
        inside = np.array([[0.5 + x, 0.035, 0.045] for x in np.linspace(-0.03, 0.03, 13)])
        assert not len(self.lifted_past(inside))

    def test_above_it_and_beside_it(self) -> None:
        above, beside = np.array([[0.5, 0.0, 0.2]]), np.array([[0.5, 0.12, 0.03]])
        assert self.lifted_past(above)[:, 2].max() > 0.19
        assert len(self.lifted_past(beside))


class TestHandOver:
    def test_presents_and_draws_back(self) -> None:
        goal = DeliveryGoal("hand_over", np.stack([shift(0.1, -0.25, 0.30)]), NOTHING)
        plan = plan_grasp([GRASP], cloud(BAR, NOTHING), LOOK_Q, limits=LIMITS, delivery=goal)
        check_safe(plan)
        d = plan.delivery
        assert d is not None
        assert d.lower is None
        np.testing.assert_allclose(held_at(plan, BAR, d.carry.positions[-1]), BAR + [0.1, -0.25, 0.30], atol=3e-4)


BLOCKS = st.lists(
    st.tuples(
        st.floats(0.25, 0.75), st.floats(-0.4, 0.4), st.floats(0.02, 0.05), st.floats(0.02, 0.08), st.floats(0.1, 0.4)
    ),
    min_size=1,
    max_size=4,
)


GRAZED = [  # by the arm between the states that a coarse search looks at
    (0.25, 0.0, 0.02, 0.02, 0.1),
    (0.28978330175956435, 0.0, 0.047863782604956356, 0.07899513807498254, 0.26816260920941215),
    (0.7466639400987797, 0.0, 0.04651221215201273, 0.027, 0.1),
    (0.697137399522516, 0.16197731560471074, 0.03730987598739896, 0.0646826905866504, 0.3711537721689211),
]


class TestAmongBlocks:
    @settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # no shrinking: slow
    @given(BLOCKS, st.floats(-0.3, 0.3), st.floats(-3.1, 3.1))
    @example(GRAZED, 0.0, 0.0)
    def test_nothing_is_hit(self, blocks: list[tuple[float, ...]], y: float, yaw: float) -> None:
        """Whatever stands there: a plan whose arm and object stay clear, or a typed failure."""
        boxes = [np.array([[x - a, b - c, 0.0], [x + a, b + c, h]]) for x, b, a, c, h in blocks]
        away = [b for b in boxes if not self.inside(BAR, b + [[-0.03, -0.03, 0], [0.03, 0.03, 0]]).any()]
        seen = np.concatenate([NOTHING, *(box(list(b[0]), list(b[1]), 0.01) for b in away)])
        goal = DeliveryGoal("place", np.stack([shift(0, y, 0.008, yaw), shift(0.1, -y, 0.008)]), NOTHING)
        plan = failed = None
        try:
            plan = plan_grasp([GRASP], cloud(BAR, seen), LOOK_Q, limits=LIMITS, delivery=goal)
        except StageFailure as failure:
            failed = failure
        if plan is None:
            assert failed is not None
            assert failed.code.startswith(("planning.", "grasp.", "scene."))
            return
        check_safe(plan)
        d, width_m = plan.delivery, plan.grasp.width_m
        assert d is not None
        assert d.lower is not None
        world = CollisionWorld(ArmKinematics(), LIMITS, seen, NOTHING, 0.0, LOOK_Q)
        assert all(world.hit(q, plan.opening_m) is None for q in plan.to_pregrasp.positions[::5])
        for motion in (plan.lift, d.carry, d.lower):
            for q in motion.positions[::5]:
                assert world.hit(q, width_m) is None
                points = held_at(plan, BAR, q)
                assert points[:, 2].min() > -1e-3
                assert not any(self.inside(points, block).any() for block in away)

    @staticmethod
    def inside(points: Array, block: Array) -> Array:
        return ((points > block[0]) & (points < block[1])).all(axis=1)
