"""Small holes in smooth surfaces are filled; those at edges, at outlines and over the table are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raycast import Box, raycast
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.types import Mask, PartCloud, PartMask, RgbdFrame
from affordagent.robot.sim.sensor import SensorNoise
from affordagent.tools.depth_holes import fill_holes
from affordagent.tools.depth_projection import lift
from affordagent.tools.table import find_objects

BLOCK = Box((0.45, 0.05), (0.10, 0.10, 0.06), 0.4)
FRAME, (MASK,) = raycast([BLOCK])
SIGMA = np.full(FRAME.depth_m.shape, 0.001, np.float32)


def middle(mask: Mask) -> tuple[int, int]:
    v, u = (int(np.median(c)) for c in np.nonzero(mask))
    return v, u


def filled_at(hole: Mask, own: Mask = MASK) -> tuple[np.ndarray, Mask]:
    depth = np.where(hole, np.float32(0), FRAME.depth_m)
    return fill_holes(depth, own, depth > 0, SIGMA, FRAME.camera)


@given(dv=st.integers(-4, 4), du=st.integers(-8, 8), height=st.integers(1, 3), width=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_a_hole_in_a_flat_side_gets_the_true_depth(dv: int, du: int, height: int, width: int) -> None:
    v, u = middle(MASK)
    hole = np.zeros_like(MASK)
    hole[v + dv : v + dv + height, u + du : u + du + width] = True
    depth, filled = filled_at(hole)
    assert (filled == hole).all() or not filled.any()  # the edge of the block's top may be near
    assert np.abs(depth - FRAME.depth_m)[filled].max(initial=0) < 0.0025


def test_most_holes_in_the_middle_are_filled() -> None:
    v, u = middle(MASK)
    hole = np.zeros_like(MASK)
    hole[v - 8, u - 10 : u + 10 : 4] = True
    depth, filled = filled_at(hole)
    assert filled.sum() >= 4
    assert np.abs(depth - FRAME.depth_m)[filled].max() < 0.001


def test_outlines_large_holes_and_edges_stay_open() -> None:
    v, u = middle(MASK)
    rim = np.zeros_like(MASK)
    row = np.flatnonzero(MASK[v])
    rim[v - 1 : v + 2, row[0] - 1 : row[0] + 3] = True
    assert not filled_at(rim)[1].any()
    large = np.zeros_like(MASK)
    large[v - 8 : v + 8, u - 8 : u + 8] = True
    assert not filled_at(large)[1].any()
    step = replace(FRAME, depth_m=FRAME.depth_m + np.where(np.arange(320) > u, np.float32(0.03), np.float32(0)))
    hole = np.zeros_like(MASK)
    hole[v - 1 : v + 2, u - 1 : u + 2] = True
    depth = np.where(hole, np.float32(0), step.depth_m)
    assert not fill_holes(depth, MASK, depth > 0, SIGMA, FRAME.camera)[1].any()


def test_nothing_is_filled_among_depths_that_are_not_sound() -> None:
    v, u = middle(MASK)
    depth = FRAME.depth_m.copy()
    depth[v, u] = 0
    assert not fill_holes(depth, MASK, np.zeros_like(MASK), SIGMA, FRAME.camera)[1].any()


def lifted(frame: RgbdFrame, mask: Mask) -> PartCloud:
    return lift(frame, find_objects(frame), PartMask(mask, mask, 1.0, "test"))


def test_the_cloud_says_how_much_was_filled() -> None:
    depth = FRAME.depth_m.copy()
    v, u = np.nonzero(MASK)
    chosen = np.random.default_rng(0).permutation(len(v))[: len(v) // 20]
    depth[v[chosen], u[chosen]] = 0
    cloud = lifted(replace(FRAME, depth_m=depth), MASK)
    assert cloud.valid_fraction == pytest.approx(0.95, abs=0.01)
    assert 0.02 < cloud.filled_fraction <= 1 - cloud.valid_fraction
    assert lifted(FRAME, MASK).filled_fraction == 0


def test_single_lost_pixels_are_no_noise() -> None:
    lost = MASK & (np.random.default_rng(0).random(MASK.shape) < 0.5)
    depth = np.where(lost, np.float32(0), FRAME.depth_m)
    assert len(lifted(replace(FRAME, depth_m=depth), MASK).part) > 100


def test_a_thin_part_is_not_judged_by_what_lies_behind_it() -> None:
    frame, (mask,) = raycast([Box((0.45, 0.0), (0.12, 0.005, 0.05), 0.3)])  # three pixels wide, 5 cm above the table
    color, depth_m = SensorNoise().apply(frame.color, frame.depth_m, frame.camera.fx, np.random.default_rng(0))
    cloud = lifted(replace(frame, color=color, depth_m=depth_m), mask)
    true = lifted(frame, mask).part
    assert np.quantile(cKDTree(true).query(cloud.part)[0], 0.9) < 0.008
    assert np.quantile(cKDTree(cloud.part).query(true)[0], 0.9) < 0.008


def test_half_of_it_glass_leaves_the_other_half() -> None:
    bare, _ = raycast([])
    _, u = np.nonzero(MASK)
    glass = MASK & (np.arange(320) > np.median(u))
    noise = 0.0015 * np.random.default_rng(0).normal(size=MASK.shape)
    depth = (np.where(glass, bare.depth_m, FRAME.depth_m) + noise).astype(np.float32)
    cloud = lifted(replace(FRAME, depth_m=depth), MASK)
    assert cloud.table_fraction == pytest.approx(0.5, abs=0.1)
    off = np.abs(cloud.part - [*BLOCK.centre, 0.03])
    assert (np.linalg.norm(off[:, :2], axis=1) < 0.08).all()
    assert (cloud.part[:, 2] < 0.004).mean() < 0.05
    clear, _ = raycast([Box((0.4, -0.15), (0.05, 0.05, 0.05))])
    clear = replace(clear, depth_m=(clear.depth_m + noise).astype(np.float32))
    with pytest.raises(StageFailure, match="table behind") as caught:
        lifted(clear, MASK)
    assert caught.value.code == "depth.transparent"
