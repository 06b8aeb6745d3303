"""Geometry, camera and the gate from raw input to typed data."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import Refused
from affordagent.core.geometry import check_rigid, invert, look_at, rigid, rotation_angle, transform_points
from affordagent.core.types import RgbdFrame

numbers = st.floats(-2, 2, allow_nan=False)
vectors = st.tuples(numbers, numbers, numbers)
transforms = st.builds(lambda r, t: rigid(Rotation.from_rotvec(r).as_matrix(), t), vectors, vectors)


@given(transforms, transforms, vectors)
def test_transforms_compose_as_their_names_say(T_a_b, T_b_c, point):
    one_step = transform_points(T_a_b @ T_b_c, [point])
    two_steps = transform_points(T_a_b, transform_points(T_b_c, [point]))
    np.testing.assert_allclose(one_step, two_steps, atol=1e-9)


@given(transforms)
def test_inverse_undoes(T):
    np.testing.assert_allclose(invert(T) @ T, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(invert(np.stack([T, T]))[1], invert(T))
    check_rigid(T, "T")


@given(st.floats(0.01, 3.1), vectors.filter(lambda v: np.linalg.norm(v) > 0.1))
def test_rotation_angle(angle, axis):
    R = Rotation.from_rotvec(np.array(axis) / np.linalg.norm(axis) * angle).as_matrix()
    assert rotation_angle(R) == pytest.approx(angle, abs=1e-6)


@pytest.mark.parametrize(
    ("T", "says"),
    [
        (np.eye(3), "4x4"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.diag([1.0, 1, -1, 1]), "right-handed"),
        (np.diag([2.0, 1, 1, 1]), "right-handed"),
        (np.ones((4, 4)), "row"),
    ],
)
def test_bad_poses_are_refused_by_name(T, says):
    with pytest.raises(ValueError, match=says) as caught:
        check_rigid(T, "T_base_camera")
    assert "T_base_camera" in str(caught.value)


def test_look_at_points_the_optical_axis_and_keeps_up_up():
    T = look_at([1.0, 0, 1], [0.4, 0, 0])
    check_rigid(T, "T")
    np.testing.assert_allclose(T[:3, 2], np.array([-0.6, 0, -1]) / np.linalg.norm([0.6, 1]), atol=1e-9)
    assert T[2, 1] < 0  # image-down points down


CAMERA = CameraIntrinsics(64, 48, 60.0, 62.0, 31.5, 23.5)


def test_projection_undoes_back_projection():
    depth = np.random.default_rng(0).uniform(0.3, 2, (48, 64))
    pixels = CAMERA.project(CAMERA.back_project(depth).reshape(-1, 3)).reshape(48, 64, 2)
    v, u = np.mgrid[:48, :64]
    np.testing.assert_allclose(pixels, np.stack([u, v], -1), atol=1e-9)


def test_single_pixels_are_back_projected_like_the_picture():
    depth = np.random.default_rng(0).uniform(0.3, 2, (48, 64)).astype(np.float32)
    some = np.array([0, 63, 64, 1500, 48 * 64 - 1])
    whole = CAMERA.back_project(depth).reshape(-1, 3)
    np.testing.assert_array_equal(CAMERA.back_project_pixels(depth, some), whole[some])


def test_a_mask_gives_the_points_of_its_pixels_that_have_depth():
    rng = np.random.default_rng(0)
    depth = (rng.uniform(0.3, 2, (48, 64)) * (rng.random((48, 64)) < 0.7)).astype(np.float32)
    mask = rng.random((48, 64)) < 0.3
    points = CAMERA.back_project_mask(depth, mask)
    np.testing.assert_array_equal(points, CAMERA.back_project(depth)[mask & (depth > 0)])
    assert points.dtype == np.float64
    assert CAMERA.back_project_mask(depth, np.zeros_like(mask)).shape == (0, 3)


@pytest.mark.parametrize("change", [{"fx": 0.0}, {"fy": -5.0}, {"cx": 900.0}, {"width": 0}, {"fx": float("nan")}])
def test_bad_intrinsics_are_refused(change):
    fields = {"width": 64, "height": 48, "fx": 60.0, "fy": 62.0, "cx": 31.5, "cy": 23.5, **change}
    with pytest.raises(ValueError, match=r"camera|principal point"):
        CameraIntrinsics(**fields)


@pytest.mark.parametrize(
    ("color", "depth", "pose", "says"),
    [
        (np.zeros((48, 64, 3), np.uint8), np.zeros((24, 32), np.float32), None, "align depth"),
        (np.zeros((48, 60, 3), np.uint8), np.zeros((48, 64), np.float32), None, "camera says"),
        (np.zeros((48, 64, 3), np.uint8), np.full((48, 64), np.nan, np.float32), None, "NaN"),
        (np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.float32), np.full((4, 4), np.nan), "NaN"),
    ],
)
def test_a_frame_is_checked_once_at_the_gate(color, depth, pose, says):
    with pytest.raises(ValueError, match=says):
        RgbdFrame(color, depth, CAMERA, pose)


def test_stage_failures_survive_pickling():
    failure = Refused("understand", "language.refused", "no", limit=1)
    again = pickle.loads(pickle.dumps(failure))
    assert type(again) is Refused
    assert (again.stage, again.code, again.message) == ("understand", "language.refused", "no")
    assert again.evidence == {"limit": 1}
