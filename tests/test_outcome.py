"""What hand, joints and a second look say of a motion: on drawn scenes with known ends, and in the simulated cell."""

from dataclasses import replace

import numpy as np
import pytest

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.geometry import invert, look_at, rigid, transform_points
from affordagent.core.types import (
    Grasp,
    GraspPlan,
    JointTrajectory,
    ObjectProposal,
    PartCloud,
    PartMask,
    RgbdFrame,
    TableScene,
    Verdict,
    box_of,
)
from affordagent.robot.interface import READY_Q, ArmState
from affordagent.robot.kinematics import ArmKinematics
from affordagent.tools.outcome import Looks, Readings, doubted, unless_unsure, verify_outcome
from affordagent.tools.second_look import align, in_one_frame

ARM = ArmKinematics()
CAMERA = CameraIntrinsics(320, 240, 312.0, 312.0, 159.5, 119.5)
T_BASE_CAMERA = look_at([0.95, 0.0, 0.7], [0.45, 0.0, 0.05])
LIFT_M, WIDTH_M = 0.2, 0.04
RNG = np.random.default_rng(3)


def q_at(x, y, z_m, near_q=READY_Q):
    T = ARM.forward(READY_Q).copy()
    T[:3, 3] = [x, y, z_m]
    return ARM.inverse(T, near_q)[0]


def block(centre, size=(0.04, 0.14, 0.05)):
    """(N, 3) points on the top and the faces towards the camera, dense enough to leave no hole."""
    n = 70
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, n), np.linspace(-0.5, 0.5, n))
    u, v, one = u.ravel(), v.ravel(), np.full(n * n, 0.5)
    faces = [np.c_[u, v, one], np.c_[one, u, v], np.c_[u, one, v], np.c_[u, -one, v]]
    return np.concatenate(faces) * size + centre


def table_points():
    x, y = np.meshgrid(np.arange(0.1, 0.85, 0.002), np.arange(-0.4, 0.4, 0.002))
    return np.c_[x.ravel(), y.ravel(), np.zeros(x.size)]


TABLE = table_points()


def draw(*things, noise_m=0.0):
    """The depth picture of the table and of points on it, nearest first, and which pixels each thing has."""
    depth, owner = np.full((240, 320), np.inf), np.full((240, 320), -1)
    for number, points in enumerate((TABLE, *things), -1):
        at = transform_points(invert(T_BASE_CAMERA), points)
        u, v = np.round(CAMERA.project(at)).astype(int).T
        inside = (u >= 0) & (u < 320) & (v >= 0) & (v < 240)
        nearest = np.full(depth.shape, np.inf)
        np.minimum.at(nearest, (v[inside], u[inside]), at[inside, 2])
        ahead = nearest < depth - 1e-4
        depth[ahead], owner[ahead] = nearest[ahead], number
    depth = np.where(np.isfinite(depth), depth + RNG.normal(0, noise_m, depth.shape), 0).astype(np.float32)
    frame = RgbdFrame(np.zeros((240, 320, 3), np.uint8), np.maximum(depth, 0), CAMERA, T_BASE_CAMERA)
    return frame, [owner == k for k in range(len(things))]


TARGET, OTHER = np.array([0.45, 0.13, 0.025]), np.array([0.45, -0.15, 0.025])
BEFORE, (TARGET_MASK, OTHER_MASK) = draw(block(TARGET), block(OTHER))


def scene():
    plane = np.append(T_BASE_CAMERA[2, :3], T_BASE_CAMERA[2, 3])
    height = (CAMERA.back_project(BEFORE.depth_m) @ plane[:3] + plane[3]).astype(np.float32)
    height[BEFORE.depth_m == 0] = np.nan
    proposals = [ObjectProposal(k, m, box_of(m)) for k, m in enumerate((TARGET_MASK, OTHER_MASK))]
    return TableScene(plane, height, proposals)


def seen(mask):
    return transform_points(T_BASE_CAMERA, CAMERA.back_project_mask(BEFORE.depth_m, mask))


CLOUD = PartCloud(seen(TARGET_MASK), seen(TARGET_MASK), seen(TARGET_MASK), seen(OTHER_MASK), 0.0, np.zeros(3), 1.0)
CLOSED_Q, TOP_Q = q_at(*TARGET), q_at(TARGET[0], TARGET[1], TARGET[2] + LIFT_M, q_at(*TARGET))


def plan():
    still = JointTrajectory(np.stack([CLOSED_Q, CLOSED_Q]), np.array([0.0, 1.0]))
    lift = JointTrajectory(np.stack([CLOSED_Q, TOP_Q]), np.array([0.0, 1.0]))
    return GraspPlan(Grasp(ARM.forward(CLOSED_Q), WIDTH_M, 0.9), 0, 0.06, still, still, lift)


def judge(after, width_m=WIDTH_M, now_q=TOP_Q, holding=None):
    readings = Readings(ArmState(now_q, width_m, 2.0, holding=holding), ArmState(CLOSED_Q, WIDTH_M, 1.0))
    looks = None if after is None else Looks(BEFORE, after, scene(), TARGET_MASK, CLOUD)
    return verify_outcome(plan(), readings, looks, ARM)


def lifted(by=(0.0, 0.0, 0.0), turned_deg=0.0):
    a = np.deg2rad(turned_deg)
    R = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    return block([0, 0, 0]) @ R.T + TARGET + [0, 0, LIFT_M] + by


@pytest.mark.parametrize("noise_m", [0.0, 0.0015])
def test_a_thing_that_is_held_as_planned(noise_m):
    verdict = judge(draw(lifted(), block(OTHER), noise_m=noise_m)[0])
    assert verdict.success, verdict
    assert verdict.by == "sensors"
    assert verdict.checks["left_its_place"]
    assert verdict.checks["seen_in_hand"]
    assert verdict.measured["there_share"] > 0.9
    assert verdict.measured["lift_m"] == pytest.approx(LIFT_M, abs=1e-3)


def test_a_thing_that_was_never_taken():
    verdict = judge(draw(block(TARGET), block(OTHER))[0])
    assert (verdict.success, verdict.code) == (False, "execution.drop")
    assert not verdict.checks["left_its_place"]


def test_a_thing_that_fell_somewhere_else():
    verdict = judge(draw(block(TARGET + [0.1, 0.08, 0.0]), block(OTHER))[0])
    assert (verdict.success, verdict.code) == (False, "execution.drop")
    assert verdict.checks["left_its_place"]
    assert not verdict.checks["seen_in_hand"]


def test_a_thing_that_turned_in_the_hand():
    assert judge(draw(lifted(turned_deg=25), block(OTHER))[0]).code == "execution.slip"


@pytest.mark.parametrize(("by_m", "stayed"), [(0.005, True), (0.03, False)])
def test_another_thing_that_was_pushed(by_m, stayed):
    verdict = judge(draw(lifted(), block(OTHER + [by_m, 0, 0]))[0])
    assert verdict.checks["others_stayed"] == stayed
    assert verdict.code == (None if stayed else "execution.collision")


def test_without_a_second_picture_hand_and_joints_decide():
    assert judge(None).success
    assert judge(None, width_m=0.0).code == "execution.no_contact"
    assert judge(None, holding=False).code == "execution.drop"
    assert judge(None, now_q=CLOSED_Q).code == "execution.tracking"
    assert set(judge(None, width_m=float("nan")).checks) == {"lifted"}  # a hand without a sensor


def test_one_error_of_calibration_is_in_both_pictures():
    off = rigid(np.eye(3), [0.02, 0, 0]) @ T_BASE_CAMERA
    after = draw(lifted(), block(OTHER))[0]
    assert np.allclose(in_one_frame(replace(BEFORE, T_base_camera=off), after).T_base_camera, off)
    moved = replace(after, depth_m=after.depth_m * np.float32(1.1))  # the camera has gone somewhere else
    assert np.allclose(in_one_frame(replace(BEFORE, T_base_camera=off), moved).T_base_camera, T_BASE_CAMERA)


def answer(mask, confidence):
    return PartMask(mask, mask, confidence, "other")


@pytest.mark.parametrize(
    ("ours", "other", "wanted"), [(0.02, 0.9, False), (0.3, 0.9, True), (0.02, 0.4, True), (0.9, 0.02, True)]
)
def test_a_second_opinion_that_is_sure_of_another_thing(ours, other, wanted):
    answers = sorted([answer(TARGET_MASK, ours), answer(OTHER_MASK, other)], key=lambda a: -a.confidence)
    verdict = doubted(Verdict(True, None, {}, {}, "sensors"), TARGET_MASK, answers)
    assert verdict.success == wanted
    assert verdict.code == (None if wanted else "verify.unknown")


def test_small_motions_are_found():
    points = block([0.0, 0.0, 0.0])[::7]
    normals = np.concatenate([np.tile(n, (4900, 1)) for n in ([0, 0, 1], [1, 0, 0], [0, 1, 0], [0, -1, 0])])
    a = np.deg2rad(6)
    R = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    T = align(points, block([0.0, 0.0, 0.0]) @ R.T + [0.008, -0.004, 0.005], normals @ R.T)
    assert T is not None
    assert np.linalg.norm(T[:3, 3] - [0.008, -0.004, 0.005]) < 0.002
    assert np.arccos((np.trace(T[:3, :3]) - 1) / 2) == pytest.approx(a, abs=0.02)
    assert align(points, points + 1.0, points) is None


@pytest.mark.parametrize(
    ("tool", "confidence", "code"),
    [("tabletop", 0.95, None), ("tabletop", 0.7, "verify.unknown"), ("another", 0.3, None)],
)
def test_a_motion_for_what_was_not_surely_found(tool, confidence, code):
    part = PartMask(TARGET_MASK, TARGET_MASK, confidence, tool, presence=0.9)
    verdict = unless_unsure(Verdict(True, None, {}, {}, "sensors"), part)
    assert verdict.code == code
