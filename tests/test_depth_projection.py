"""Lifting masks to clouds: geometry, cleaning and typed failures, on ray-cast frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raycast import Box, raycast, with_noise

from affordagent.core.errors import StageFailure
from affordagent.core.types import Mask, PartCloud, PartMask, RgbdFrame
from affordagent.tools.depth_projection import check_table_height, flying, lift, voxel_downsample
from affordagent.tools.table import find_objects

BLOCK = Box((0.45, 0.05), (0.08, 0.06, 0.10), 0.4)
OTHER = Box((0.40, -0.15), (0.05, 0.05, 0.05), rgb=(20, 20, 200))


def part_of(mask: Mask) -> PartMask:
    return PartMask(mask, mask, 1.0, "test")


def lifted(boxes: list[Box]) -> tuple[PartCloud, RgbdFrame]:
    frame, masks = raycast(boxes)
    return lift(frame, find_objects(frame), part_of(masks[0])), frame


@given(x=st.floats(0.38, 0.5), y=st.floats(-0.1, 0.12), yaw=st.floats(0, 1.5), height=st.floats(0.03, 0.12))
@settings(max_examples=8, deadline=None)
def test_points_lie_on_the_block_and_normals_face_the_camera(x: float, y: float, yaw: float, height: float) -> None:
    box = Box((x, y), (0.08, 0.06, height), yaw)
    cloud, _ = lifted([box])
    c, s = np.cos(yaw), np.sin(yaw)
    local = (cloud.part - [x, y, height / 2]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    outside = np.abs(local) - [0.04, 0.03, height / 2]
    assert np.abs(outside.max(1)).max() < 0.004  # on the surface, voxel means cut corners
    towards = np.einsum("ij,ij->i", cloud.part_normals, cloud.camera_position - cloud.part)
    assert (towards > 0).all()
    assert np.linalg.norm(cloud.part_normals, axis=1) == pytest.approx(1)
    assert cloud.table_z_m == pytest.approx(0, abs=0.002)
    assert cloud.valid_fraction == 1


def test_the_other_thing_is_an_obstacle_and_the_table_is_not() -> None:
    cloud, _ = lifted([BLOCK, OTHER])
    assert len(cloud.obstacles) > 50
    assert cloud.obstacles[:, 2].min() > 0.004
    assert (np.abs(cloud.obstacles[:, :2] - OTHER.centre).max(1) < 0.035).all()
    alone, _ = lifted([BLOCK])
    assert len(alone.obstacles) == 0


def test_the_rim_and_table_pixels_of_a_loose_mask_are_dropped() -> None:
    frame, masks = raycast([BLOCK])
    loose = np.zeros_like(masks[0])
    ys, xs = np.nonzero(masks[0])
    loose[ys.min() - 4 : ys.max() + 5, xs.min() - 4 : xs.max() + 5] = True
    cloud = lift(frame, find_objects(frame), part_of(loose))
    assert cloud.part[:, 2].min() > 0.001
    assert np.abs(cloud.part[:, :2] - BLOCK.centre).max() < 0.06


def test_flying_pixels_are_seen() -> None:
    frame, masks = raycast([BLOCK])
    depth = frame.depth_m.copy()
    v, u = (int(c.mean()) for c in np.nonzero(masks[0]))
    depth[v, u] += 0.08
    wrong = flying(depth)
    assert wrong[v, u]
    assert wrong.mean() < 0.01


def test_noise_moves_the_part_by_little() -> None:
    frame, masks = raycast([BLOCK])
    clean = lift(frame, find_objects(frame), part_of(masks[0]))
    noisy_frame = with_noise(frame, np.random.default_rng(0))
    noisy = lift(noisy_frame, find_objects(noisy_frame), part_of(masks[0]))
    assert np.abs(noisy.part.mean(0) - clean.part.mean(0)).max() < 0.003
    assert 0.95 < noisy.valid_fraction < 1


def failing(frame: RgbdFrame, mask: Mask, depth: np.ndarray | None = None) -> StageFailure:
    scene = find_objects(frame)
    if depth is not None:
        points = frame.camera.back_project(depth)
        height = np.where(depth > 0, points @ scene.plane_camera[:3] + scene.plane_camera[3], np.nan)
        frame, scene = replace(frame, depth_m=depth), replace(scene, height_m=height.astype(np.float32))
    with pytest.raises(StageFailure) as caught:
        lift(frame, scene, part_of(mask))
    assert caught.value.stage == "lift"
    return caught.value


def test_failures_are_typed() -> None:
    frame, (mask,) = raycast([BLOCK])
    table, _ = raycast([])
    depth = frame.depth_m.copy()
    depth[mask] = 0
    hole = failing(frame, mask, depth)
    assert hole.code == "depth.hole"
    assert "0%" in hole.message
    assert failing(frame, mask, table.depth_m).code == "depth.transparent"
    depth = frame.depth_m.copy()
    depth[mask] += np.random.default_rng(0).normal(0, 0.03, int(mask.sum())).astype(np.float32)
    assert failing(frame, mask, depth).code == "depth.noisy"
    assert failing(frame, np.zeros_like(mask)).code == "grounding.empty_mask"
    assert failing(replace(frame, T_base_camera=None), mask).code == "calibration.pose"


def test_a_table_that_is_not_where_the_settings_have_it() -> None:
    check_table_height(0.029, 0.0)
    check_table_height(-0.12, -0.1)
    with pytest.raises(StageFailure, match=r"seen at z = 0.035 m.*table_z_m = 0.000.*limit 0.03") as caught:
        check_table_height(0.035, 0.0)
    assert caught.value.code == "calibration.drift"


def test_voxels_keep_the_mean() -> None:
    points = np.random.default_rng(0).uniform(0, 0.1, (2000, 3))
    small = voxel_downsample(points, 0.02)
    assert len(small) <= 216
    assert small.mean(0) == pytest.approx(points.mean(0), abs=0.003)
    assert voxel_downsample(np.zeros((0, 3)), 0.01).shape == (0, 3)
