"""Grasp proposal on synthetic one-view clouds: what a camera at CAMERA sees of solids on a table at z = 0."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, look_at, rigid, transform_points
from affordagent.core.types import Grasp, GraspSet, PartCloud
from affordagent.tools.grasping import file_format
from affordagent.tools.grasping.collision import HandCollision, drop_to_table
from affordagent.tools.grasping.completion import complete
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85
from affordagent.tools.grasping.propose import propose
from affordagent.tools.grasping.ranking import diverse

CAMERA = np.array([0.9, 0.05, 0.7])
NOTHING = np.zeros((0, 3))


def see(mesh: trimesh.Trimesh, spacing_m: float = 0.0018, camera: Array = CAMERA) -> tuple[Array, Array]:
    """Points and outward normals of the surface that faces the camera and is not hidden by the rest of the mesh."""
    count = int(mesh.area / spacing_m**2)
    points, face = trimesh.sample.sample_surface(mesh, count, seed=0)
    normals = mesh.face_normals[face]
    ray = points - camera
    facing = np.einsum("ij,ij->i", normals, ray) < -0.1 * np.linalg.norm(ray, axis=1)
    points, normals = points[facing], normals[facing]
    away = np.linalg.norm(points - camera, axis=1)
    seen = _first_hits_m(mesh, camera, (points - camera) / away[:, None]) > away - 1e-4
    return np.asarray(points[seen]), np.asarray(normals[seen])


def _first_hits_m(mesh: trimesh.Trimesh, origin: Array, directions: Array) -> Array:
    """(N,) distances along unit rays to the mesh."""
    spec = mujoco.MjSpec()
    shell = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    vertices, faces = mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)
    spec.add_mesh(name="mesh", uservert=vertices.ravel(), userface=faces.ravel(), inertia=shell)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mesh")
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    geoms, hits = np.zeros(len(directions), np.int32), np.zeros(len(directions))
    mujoco.mj_multiRay(model, data, origin, directions.ravel(), None, 1, -1, geoms, hits, None, len(directions), 10.0)
    return hits


def cloud_of(part: trimesh.Trimesh, rest: trimesh.Trimesh | None = None, obstacles: Array = NOTHING) -> PartCloud:
    points, normals = see(part)
    whole = points if rest is None else np.concatenate([points, see(rest)[0]])
    return PartCloud(points, normals, whole, obstacles, 0.0, CAMERA, 1.0)


def bar(length: float = 0.16, size: float = 0.022, z: float = 0.011, yaw: float = 0.4) -> trimesh.Trimesh:
    mesh = trimesh.creation.box((length, size, size))
    mesh.apply_transform(trimesh.transformations.rotation_matrix(yaw, [0, 0, 1]))
    mesh.apply_translation((0.45, 0.0, z))
    return mesh


def cylinder(radius: float = 0.03, height: float = 0.1) -> trimesh.Trimesh:
    mesh = trimesh.creation.cylinder(radius, height, sections=48)
    mesh.apply_translation((0.45, 0.0, height / 2))
    return mesh


def mug() -> tuple[trimesh.Trimesh, trimesh.Trimesh]:
    """Handle (a half ring that stands off sideways) and body."""
    body = trimesh.creation.cylinder(0.04, 0.09, sections=48)
    body.apply_translation((0.45, 0.0, 0.045))
    angle = np.linspace(-np.pi / 2, np.pi / 2, 13)
    path = np.stack([np.full(13, 0.46), 0.037 + 0.03 * np.cos(angle), 0.048 + 0.03 * np.sin(angle)], -1)
    pieces = [trimesh.creation.capsule(np.linalg.norm(b - a), 0.006) for a, b in zip(path[:-1], path[1:], strict=True)]
    for piece, a, b in zip(pieces, path[:-1], path[1:], strict=True):
        piece.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], b - a))
        piece.apply_translation(a)
    return trimesh.boolean.union(pieces, engine="manifold"), body


def lowest_tip_m(grasp: Grasp, opening_m: float) -> float:
    tip = float(ROBOTIQ_2F85.tip_past_tcp_m(opening_m))
    x, y = ROBOTIQ_2F85.pad_width_m / 2, opening_m / 2
    corners = [(i * x, j * y, tip) for i in (-1, 1) for j in (-1, 1)]
    return float(transform_points(grasp.T_base_tcp, corners)[:, 2].min())


def check_sound(grasps: GraspSet) -> None:
    assert grasps
    assert [g.score for g in grasps] == sorted((g.score for g in grasps), reverse=True)
    for grasp in grasps:
        R = grasp.T_base_tcp[:3, :3]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(R) > 0
        assert -R[2, 2] >= np.cos(np.radians(60)) - 1e-6, "approaches come from above"
        assert 0 < grasp.width_m <= ROBOTIQ_2F85.max_width_m
        assert lowest_tip_m(grasp, grasp.width_m) >= ROBOTIQ_2F85.table_clearance_m - 1e-6
        assert 0 <= grasp.score <= 1
        assert all(0 <= v <= 1 for v in grasp.terms.values())


@pytest.mark.parametrize("z", [0.011, 0.06])
def test_bar_is_closed_on_across(z: float) -> None:
    """On the table and raised above it; on a raised bar the tips must not go for the table."""
    yaw = 0.4
    grasps = propose(cloud_of(bar(z=z, yaw=yaw)))
    check_sound(grasps)
    best = grasps[0]
    along = np.array([np.cos(yaw), np.sin(yaw), 0])
    assert abs(best.T_base_tcp[:3, 1] @ along) < np.sin(np.radians(12))
    assert abs(best.width_m - 0.022) < 0.005
    offset = best.T_base_tcp[:3, 3] - [0.45, 0, z]
    assert abs(offset @ [-np.sin(yaw), np.cos(yaw), 0]) < 0.004, "the bar is amid the fingers"
    assert abs(offset @ along) < 0.03, "near the balance point"
    assert abs(lowest_tip_m(best, best.width_m) - z) < 0.03


def test_cylinder_is_taken_whole() -> None:
    grasps = propose(cloud_of(cylinder()))
    check_sound(grasps)
    assert abs(grasps[0].width_m - 0.06) < 0.008
    assert np.linalg.norm(grasps[0].T_base_tcp[:2, 3] - [0.45, 0]) < 0.006


@pytest.mark.parametrize("height_m", [0.009, 0.012])
def test_a_thin_rod_on_the_table(height_m: float) -> None:
    """Hardly anything of its sides is seen, and the tips stay off the table."""
    rod = trimesh.creation.box((0.15, 0.008, height_m))
    rod.apply_translation((0.45, 0, height_m / 2))
    grasps = propose(cloud_of(rod))
    check_sound(grasps)
    assert grasps[0].width_m < 0.014


def test_mug_is_taken_by_its_handle() -> None:
    handle, body = mug()
    grasps = propose(cloud_of(handle, body))
    check_sound(grasps)
    best = grasps[0]
    assert best.width_m < 0.025
    assert best.T_base_tcp[1, 3] > 0.042, "beyond the body's wall"
    assert abs(best.T_base_tcp[0, 1]) > 0.8, "closes square to the handle's plane"


def test_completion_closes_a_cylinder() -> None:
    points, normals = see(cylinder())
    surface = complete(points, normals, CAMERA, 0.0)
    radius = np.linalg.norm(surface.points[:, :2] - [0.45, 0], axis=1)
    side = ~surface.observed & (surface.points[:, 2] < 0.09)
    assert np.median(np.abs(radius[side] - 0.03)) < 0.003
    behind = surface.points[side, 0] < 0.44
    assert behind.sum() > 50, "the far side is there"
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=1), 1.0, atol=1e-6)


def test_raised_bar_is_not_filled_to_the_table() -> None:
    points, normals = see(bar(z=0.08))
    surface = complete(points, normals, CAMERA, 0.0)
    assert surface.points[:, 2].min() > 0.04


@settings(max_examples=4, deadline=None)
@given(yaw=st.floats(-3.1, 3.1), seed=st.integers(0, 5))
def test_turning_the_world_turns_the_grasps(yaw: float, seed: int) -> None:
    """Grasps keep their scores when camera and object turn about the vertical together."""
    cloud = cloud_of(bar())
    T = rigid(trimesh.transformations.rotation_matrix(yaw, [0, 0, 1])[:3, :3], np.zeros(3))
    turned = PartCloud(
        transform_points(T, cloud.part),
        cloud.part_normals @ T[:3, :3].T,
        transform_points(T, cloud.object),
        NOTHING,
        0.0,
        transform_points(T, CAMERA[None])[0],
        1.0,
    )
    here, there = propose(cloud, seed)[0], propose(turned, seed)[0]
    assert abs(here.score - there.score) < 0.06
    assert abs(here.width_m - there.width_m) < 0.004
    assert np.linalg.norm(transform_points(T, here.T_base_tcp[None, :3, 3])[0] - there.T_base_tcp[:3, 3]) < 0.03


def test_same_seed_same_grasps() -> None:
    cloud = cloud_of(bar())
    first, second = propose(cloud, 3), propose(cloud, 3)
    assert [g.score for g in first] == [g.score for g in second]


def test_grasps_differ_from_each_other() -> None:
    grasps = propose(cloud_of(bar()))
    poses = np.array([g.T_base_tcp for g in grasps])
    assert diverse(poses, np.array([g.score for g in grasps]), len(grasps)) == list(range(len(grasps)))


def wall(x: float, half_width_m: float = 0.1, height_m: float = 0.2) -> Array:
    y, z = np.meshgrid(np.arange(-half_width_m, half_width_m, 0.003), np.arange(0.0, height_m, 0.003))
    return np.stack([np.full(y.size, x), y.ravel(), z.ravel()], -1)


def test_a_wall_in_the_way_is_seen() -> None:
    T = np.tile(rigid(np.diag([1.0, -1.0, -1.0]), [0.45, 0, 0.03]), (3, 1, 1))
    T[1, 0, 3] += 0.12  # free of the wall
    T[2, 2, 3] += 0.4  # above it
    opening = np.full(3, 0.05)
    collision = HandCollision(wall(0.455), NOTHING, 0.0, ROBOTIQ_2F85)
    assert collision.hits_scene(T, opening).tolist() == [True, False, False]
    near, far = collision.clearance_m(T[1:], opening[1:], 0.5)
    assert 0.02 < near < far


def test_the_table_is_seen() -> None:
    T = np.stack([rigid(np.diag([1.0, -1.0, -1.0]), [0.45, 0, z]) for z in (0.002, 0.03)])
    hits = HandCollision(NOTHING, NOTHING, 0.0, ROBOTIQ_2F85).hits_table(T, np.full(2, 0.02))
    assert hits.tolist() == [True, False]


def test_obstacles_are_filled_below() -> None:
    filled = drop_to_table(np.array([[0.4, 0.1, 0.1]]), 0.0)
    assert len(filled) == 13
    assert filled[:, 2].min() < 0.01


def failure_of(cloud: PartCloud) -> StageFailure:
    with pytest.raises(StageFailure) as caught:
        propose(cloud)
    assert caught.value.stage == "propose"
    return caught.value


def test_too_wide() -> None:
    box = trimesh.creation.box((0.15, 0.14, 0.12))
    box.apply_translation((0.45, 0, 0.06))
    failure = failure_of(cloud_of(box))
    assert failure.code == "grasp.too_wide"
    assert failure.evidence["width_m"] > ROBOTIQ_2F85.max_width_m


def test_hemmed_in() -> None:
    walls = [wall(0.45 + dx) for dx in (-0.035, -0.02, 0.02, 0.035)]
    failure = failure_of(cloud_of(bar(length=0.12, yaw=np.pi / 2), obstacles=np.concatenate(walls)))
    assert failure.code == "grasp.collides_scene"
    assert failure.evidence["hit_scene"] > 0


def test_hardly_any_points() -> None:
    cloud = cloud_of(bar())
    few = PartCloud(cloud.part[:8], cloud.part_normals[:8], cloud.object, NOTHING, 0.0, CAMERA, 0.1)
    assert failure_of(few).code == "grasp.none"


def test_a_sheet_on_the_table() -> None:
    sheet = trimesh.creation.box((0.05, 0.04, 0.0015))
    sheet.apply_translation((0.45, 0, 0.00075))
    assert failure_of(cloud_of(sheet)).code in ("grasp.collides_surface", "grasp.none")


def test_file_format_round_trip(tmp_path: Path) -> None:
    T_base_camera = look_at(CAMERA, [0.45, 0, 0])
    grasps = propose(cloud_of(bar()), limit=5)
    path = tmp_path / "grasps.npy"
    file_format.save_npy(path, grasps, T_base_camera)
    assert np.load(path).shape == (len(grasps), 17)
    for grasp, back in zip(grasps, file_format.load_npy(path, T_base_camera), strict=True):
        np.testing.assert_allclose(back.T_base_tcp, grasp.T_base_tcp, atol=1e-9)
        assert back.width_m == pytest.approx(grasp.width_m)
        assert back.score == pytest.approx(grasp.score)


def test_file_format_frame() -> None:
    """graspnetAPI's columns: x of the rotation is the approach, and the tips lie `depth` past the translation."""
    grasp = Grasp(rigid(np.diag([1.0, -1.0, -1.0]), [0.4, 0.1, 0.05]), 0.03, 0.7)
    row = file_format.to_array([grasp])[0]
    R = row[4:13].reshape(3, 3)
    np.testing.assert_allclose(R[:, 0], [0, 0, -1])
    np.testing.assert_allclose(np.linalg.det(R), 1.0)
    tip = row[13:16] + row[3] * R[:, 0]
    assert tip[2] == pytest.approx(0.05 - float(ROBOTIQ_2F85.tip_past_tcp_m(0.03)))
    with pytest.raises(ValueError, match="shape"):
        file_format.from_array(np.zeros((2, 7)))
