"""AP as GraspNet-1Billion defines it: perfect, slipping, colliding and random grasps, and the steps one by one."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import rigid, transform_points
from affordagent.evaluations.grasp_ap import (
    FRICTIONS,
    TOP,
    Thing,
    average_precision,
    judge,
    least_friction,
    rows_of,
    scene_of_file,
    selected,
    voxel_means,
    without_near_twins,
)
from affordagent.tools.grasping.file_format import tip_poses

TABLE = np.eye(4)
DOWN = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # columns: approach -z, closing y, third x


def row(at, R=DOWN, width=0.06, depth=0.02, score=0.5) -> np.ndarray:
    """A grasp whose fingertips are at `at`."""
    R = np.asarray(R, float)
    return np.concatenate([[score, width, 0.02, depth], R.ravel(), np.asarray(at, float) - depth * R[:, 0], [-1]])


def box(x=0.0, y=0.0, size=(0.06, 0.04, 0.05), turn=0.0) -> Thing:
    """On the table."""
    T = rigid(Rotation.from_euler("z", turn).as_matrix(), np.array([x, y, size[2] / 2]))
    return Thing.of(trimesh.creation.box(size), T)


def five_boxes() -> tuple[list[Thing], np.ndarray]:
    """Far from each other, and ten perfect grasps of each, 40 degrees or 31 mm apart."""
    things = [box(0.2 * i - 0.4, size=(0.20, 0.04, 0.05)) for i in range(2)]
    things += [box(0.0, 0.2 * i + 0.3, size=(0.20, 0.04, 0.05)) for i in range(3)]
    rows = []
    for thing in things:
        centre = thing.T_scene_thing[:3, 3]
        for x in (-0.08, -0.04, 0.0, 0.04, 0.08):
            for tilt in (-0.45, 0.45):
                R = Rotation.from_euler("y", tilt).as_matrix() @ DOWN
                rows.append(row(centre + [x, 0, 0.0], R, score=1.0))
    return things, np.array(rows)


def test_perfect_grasps_on_boxes_have_an_ap_of_one():
    things, rows = five_boxes()
    judged = judge(rows, things, None)
    assert len(judged.rows) == TOP
    assert not judged.collides.any()
    assert (judged.friction == FRICTIONS[0]).all()
    np.testing.assert_allclose(judged.precision, 1.0)
    assert average_precision([judged.precision])["AP"] == pytest.approx(100)


def test_one_thing_has_ten_grasps_and_the_rest_of_the_fifty_are_missing():
    judged = judge(np.array([row([x, 0, 0.03]) for x in (-0.015, 0.016)]), [box()], TABLE)
    assert (judged.friction == 0.2).all()
    expected = np.minimum(1, 2 / np.arange(1, TOP + 1))
    np.testing.assert_allclose(judged.precision, expected[:, None].repeat(len(FRICTIONS), 1))


def test_random_grasps_are_worth_next_to_nothing():
    rng = np.random.default_rng(0)
    things = [box(0.15 * i - 0.3, 0.1 * (i % 2)) for i in range(5)]
    R = Rotation.random(300, rng=rng).as_matrix()
    at = rng.uniform([-0.4, -0.1, 0], [0.4, 0.2, 0.1], (300, 3))
    rows = np.array([row(a, r, score=rng.random()) for a, r in zip(at, R, strict=True)])
    judged = judge(rows, things, TABLE)
    assert average_precision([judged.precision])["AP"] < 10


@pytest.mark.parametrize(
    ("degrees", "friction"), [(0, 0.2), (10, 0.2), (12, 0.4), (30, 0.6), (44, 1.0), (49, 1.2), (52, -1)]
)
def test_the_friction_is_that_of_the_angle(degrees, friction):
    """A grasp of two parallel sides that is turned by an angle needs a friction of its tangent."""
    size = np.array([0.4, 0.03, 0.4])
    R = Rotation.from_euler("x", degrees, degrees=True).as_matrix() @ DOWN
    corners = transform_points(np.eye(4), trimesh.creation.box(size).triangles.reshape(-1, 3)).reshape(-1, 3, 3)
    assert least_friction(row([0.01, 0, 0.02], R, width=0.09), corners) == friction


def test_fingers_that_would_pass_the_middle_do_not_hold():
    thing = trimesh.creation.box((0.06, 0.02, 0.05)).triangles
    assert least_friction(row([0, 0.004, 0]), thing) == 0.2
    assert least_friction(row([0, 0.011, 0]), thing) == -1  # the whole thing lies on one side
    assert least_friction(row([0, 0, 0], width=0.015), thing) == -1  # closed before it gets there
    assert least_friction(row([0, 0, 0.03]), thing) == -1  # over it


@pytest.mark.parametrize(
    ("grasp", "collides"),
    [
        (row([0, 0, 0.03]), False),
        (row([0, 0, 0.03], width=0.038), True),  # the fingers stand on it
        (row([0, 0, 0.02], depth=0.005), True),  # the palm does
        (row([0, 0, -0.004]), True),  # the tips are in the table
        (row([0, 0.0, 0.06]), True),  # nothing between the fingers
    ],
)
def test_collisions(grasp, collides):
    judged = judge(grasp[None], [box()], TABLE)
    assert judged.collides[0] == collides
    assert (judged.friction[0] > 0) != collides


def test_a_neighbour_in_the_way_collides():
    assert judge(row([0, 0, 0.03])[None], [box(), box(y=0.09)], TABLE).friction[0] > 0
    assert judge(row([0, 0, 0.03])[None], [box(), box(y=0.055)], TABLE).collides[0]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20)
def test_precision_rises_with_friction_and_never_past_one(seed):
    rng = np.random.default_rng(seed)
    things = [box(0.0, size=(0.05, 0.03, 0.08)), box(0.12, turn=0.4)]
    R = Rotation.from_rotvec(rng.normal(0, 0.4, (40, 3))).as_matrix() @ DOWN
    at = rng.uniform([-0.05, -0.03, 0.01], [0.15, 0.03, 0.06], (40, 3))
    rows = np.array([row(a, r, rng.uniform(0.02, 0.12), score=rng.random()) for a, r in zip(at, R, strict=True)])
    judged = judge(rows, things, TABLE)
    assert (np.diff(judged.precision, axis=1) >= 0).all()
    assert ((judged.precision >= 0) & (judged.precision <= 1)).all()
    assert (judged.rows[:, 1] <= 0.1).all()
    assert (np.diff(judged.rows[:, 0]) <= 0).all()
    turned = rigid(Rotation.from_euler("xyz", rng.uniform(-1, 1, 3)).as_matrix(), rng.normal(0, 1, 3))
    moved = judge(_moved(rows, turned), [Thing(t.corners, t.points, turned @ t.T_scene_thing) for t in things], turned)
    np.testing.assert_array_equal(moved.thing, judged.thing)
    assert (moved.friction == judged.friction).mean() > 0.9  # the box that cuts the scene has the frame's axes


def _moved(rows: np.ndarray, T: np.ndarray) -> np.ndarray:
    moved = rows.copy()
    moved[:, 4:13] = (T[:3, :3] @ rows[:, 4:13].reshape(-1, 3, 3)).reshape(-1, 9)
    moved[:, 13:16] = transform_points(T, rows[:, 13:16])
    return moved


def test_near_twins_go_and_others_stay():
    turned = Rotation.from_euler("z", 29, degrees=True).as_matrix() @ DOWN
    further = Rotation.from_euler("z", 31, degrees=True).as_matrix() @ DOWN
    rows = np.array(
        [
            row([0, 0, 0], score=0.9),
            row([0.029, 0, 0], score=0.8),  # a twin
            row([0.031, 0, 0], score=0.7),  # too far from the first, and the second is gone
            row([0, 0, 0], turned, score=0.6, depth=0),
            row([0, 0, 0.02], further, score=0.5, depth=0),
        ]
    )
    assert without_near_twins(rows)[:, 0].tolist() == [0.9, 0.7, 0.5]


def test_each_thing_has_ten_and_the_scene_fifty():
    clouds = [np.array([[float(i), 0, 0]]) for i in range(8)]
    rows = np.array([row([i + 0.02 * k, 0, 0], score=i + k / 100) for i in range(8) for k in range(15)])
    kept, owner = selected(rows, clouds)
    assert len(kept) == TOP
    assert set(owner) == {3, 4, 5, 6, 7}
    assert all((owner == i).sum() == 10 for i in set(owner))
    assert (np.diff(kept[:, 0]) <= 0).all()


def test_voxel_means_are_one_a_cell():
    points = np.random.default_rng(0).uniform(0, 0.04, (5000, 3))
    means = voxel_means(points)
    assert 5**3 <= len(means) <= 6**3
    np.testing.assert_allclose(
        voxel_means(np.array([[0, 0, 0], [0.001, 0, 0], [0.05, 0, 0]])), [[0.0005, 0, 0], [0.05, 0, 0]]
    )


def test_malformed_grasps_are_refused(tmp_path):
    for wrong in (np.zeros((3, 16)), np.full((1, 17), np.nan)):
        with pytest.raises(ValueError, match="17 columns"):
            judge(wrong, [box()], TABLE)
    assert judge(np.zeros((0, 17)), [box()], TABLE).precision.sum() == 0
    (tmp_path / "scene.json").write_text('{"objects": [{"mesh": "none.obj", "T_camera_object": []}]}')
    with pytest.raises(AffordAgentError, match="cannot read the scene"):
        scene_of_file(tmp_path / "scene.json")


def test_our_own_grasps_are_judged_where_their_pads_touch():
    from affordagent.core.types import Grasp

    T = rigid(np.stack([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]], 1), np.array([0.01, 0, 0.03]))
    rows = rows_of([Grasp(T, 0.04, 0.7)])
    np.testing.assert_allclose(tip_poses(rows)[0], T, atol=1e-9)
    assert rows[0, 1] == pytest.approx(0.06)
    assert judge(rows, [box()], TABLE).friction[0] == 0.2


def test_the_command_judges_files(tmp_path):
    trimesh.creation.box((0.06, 0.04, 0.05)).export(tmp_path / "box.stl")
    scene = {
        "objects": [{"mesh": "box.stl", "T_camera_object": rigid(np.eye(3), np.array([0, 0, 0.025])).tolist()}],
        "T_camera_table": np.eye(4).tolist(),
    }
    (tmp_path / "scene.json").write_text(json.dumps(scene))
    np.save(tmp_path / "good.npy", row([0, 0, 0.03])[None])
    np.save(tmp_path / "bad.npy", row([0, 0, 0.2])[None])
    command = [
        sys.executable,
        "-m",
        "affordagent.evaluations.grasp_ap",
        "good.npy",
        "bad.npy",
        "--objects",
        "scene.json",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    good, bad, both = done.stdout.splitlines()
    assert "1 judged, 0 collide, 0 slip" in good
    assert "1 judged, 1 collide, 0 slip" in bad
    one = 100 * sum(1 / k for k in range(1, TOP + 1)) / TOP
    assert f"AP {one / 2:.1f}" in both
