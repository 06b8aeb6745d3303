"""The table plane and what stands on it: ray-cast scenes, noise, holes, and real frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raycast import Box, iou, raycast, with_noise

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import look_at
from affordagent.core.types import RgbdFrame
from affordagent.robot.frame_cell import FrameCell
from affordagent.tools.camera_pose import ASSUMED_X_M, estimate_T_base_camera
from affordagent.tools.table import find_objects, find_table

MUGLIKE = Box((0.42, -0.12), (0.08, 0.08, 0.10))
TOOL = Box((0.45, 0.12), (0.22, 0.03, 0.02), 0.6, (30, 30, 200))


@given(
    x=st.floats(0.8, 1.1), y=st.floats(-0.3, 0.3), z=st.floats(0.35, 0.9), known=st.booleans(), seed=st.integers(0, 99)
)
@settings(max_examples=10, deadline=None)
def test_plane_is_found_from_anywhere(x: float, y: float, z: float, known: bool, seed: int) -> None:
    T = look_at((x, y, z), (0.45, 0.0, 0.0))
    frame, _ = raycast([MUGLIKE, TOOL], T, known)
    plane = find_table(frame, seed)
    assert plane[:3] @ T[2, :3] > np.cos(np.radians(0.5))
    assert plane[3] == pytest.approx(z, abs=0.003)
    assert np.linalg.norm(plane[:3]) == pytest.approx(1)


@pytest.mark.parametrize("known", [True, False])
def test_each_thing_is_one_proposal(known: bool) -> None:
    frame, masks = raycast([MUGLIKE, TOOL], known=known)
    scene = find_objects(frame)
    assert len(scene.proposals) == 2
    for mask in masks:
        assert max(iou(p.mask, mask) for p in scene.proposals) > 0.93
    assert scene.proposals[0].mask.sum() >= scene.proposals[1].mask.sum()
    x0, y0, x1, y1 = scene.proposals[0].box
    assert scene.proposals[0].mask[y0:y1, x0:x1].sum() == scene.proposals[0].mask.sum()


def test_thin_tools_are_found_in_clean_depth() -> None:
    frame, masks = raycast([Box((0.45, 0.0), (0.18, 0.025, 0.008), 0.8)])
    assert [iou(p.mask, masks[0]) > 0.85 for p in find_objects(frame).proposals] == [True]


def test_camera_noise_and_holes_do_not_hide_things() -> None:
    frame, masks = raycast([MUGLIKE, TOOL])
    noisy = with_noise(frame, np.random.default_rng(0))
    scene = find_objects(noisy)
    assert all(max(iou(p.mask, mask) for p in scene.proposals) > 0.75 for mask in masks)
    assert len(scene.proposals) == 2


def test_a_thing_behind_another_stays_apart() -> None:
    near = Box((0.52, 0.0), (0.06, 0.06, 0.08))
    behind = Box((0.40, 0.0), (0.06, 0.10, 0.16), rgb=(30, 160, 40))
    frame, masks = raycast([near, behind])
    scene = find_objects(frame)
    assert len(scene.proposals) == 2
    assert all(max(iou(p.mask, mask) for p in scene.proposals) > 0.9 for mask in masks)


def test_a_depth_hole_across_a_tool_does_not_split_it() -> None:
    frame, masks = raycast([Box((0.45, 0.0), (0.03, 0.26, 0.02), 0.0)])
    depth = frame.depth_m.copy()
    depth[:, 150:158] = 0
    scene = find_objects(replace(frame, depth_m=depth))
    assert len(scene.proposals) == 1
    assert iou(scene.proposals[0].mask, masks[0]) > 0.85


def test_arm_base_and_things_out_of_reach_are_no_proposals() -> None:
    arm = Box((0.3, 0.0), (0.12, 0.12, 0.45), rgb=(90, 90, 90))
    outside = Box((0.05, 0.15), (0.06, 0.06, 0.05))
    frame, masks = raycast([MUGLIKE, arm, outside], look_at((1.1, 0.0, 0.95), (0.4, 0.0, 0.12)))
    scene = find_objects(frame)
    assert len(scene.proposals) == 1
    assert iou(scene.proposals[0].mask, masks[0]) > 0.9


def test_a_table_above_a_floor_is_the_table() -> None:
    slab = Box((0.45, 0.0), (0.5, 0.6, 0.02), rgb=(220, 220, 220), base_z_m=0.68)
    cup = Box((0.45, 0.0), (0.07, 0.07, 0.1), base_z_m=0.7)
    T = look_at((1.1, 0.0, 1.3), (0.45, 0.0, 0.7))
    frame, masks = raycast([slab, cup], T, known=False)
    scene = find_objects(frame)
    assert scene.plane_camera[3] == pytest.approx(0.6, abs=0.01)
    assert [iou(p.mask, masks[1]) > 0.9 for p in scene.proposals] == [True]


def test_empty_table_and_missing_depth_are_typed() -> None:
    frame, _ = raycast([])
    with pytest.raises(StageFailure, match="nothing stands on the table") as failure:
        find_objects(frame)
    assert (failure.value.stage, failure.value.code) == ("ground", "grounding.not_found")
    blind = np.zeros_like(frame.depth_m)
    blind[:5] = 0.5
    with pytest.raises(StageFailure, match=r"2\.1%.*at least 5%") as failure:
        find_objects(replace(frame, depth_m=blind))
    assert (failure.value.stage, failure.value.code) == ("look", "depth.hole")


def test_without_a_plane_there_is_no_table() -> None:
    frame, _ = raycast([])
    depth = np.random.default_rng(0).uniform(0.3, 1.8, frame.depth_m.shape).astype(np.float32)
    with pytest.raises(StageFailure, match="no table plane"):
        find_table(replace(frame, depth_m=depth))


def test_estimated_mounting_puts_the_table_level_and_the_things_in_reach() -> None:
    frame, _ = raycast([MUGLIKE, TOOL], known=False)
    scene = find_objects(frame)
    T, assumption = estimate_T_base_camera(frame, scene)
    known = replace(frame, T_base_camera=T)
    normal = T[:3, :3] @ scene.plane_camera[:3]
    assert normal == pytest.approx([0, 0, 1], abs=1e-6)
    assert T[2, 3] == pytest.approx(0.6, abs=0.003)
    points = known.camera.back_project(known.depth_m)
    things = np.mean([np.median(points[p.mask], axis=0) for p in scene.proposals], axis=0)
    assert (T[:3, :3] @ things + T[:3, 3])[:2] == pytest.approx([ASSUMED_X_M, 0], abs=1e-6)
    assert "assumed" in assumption
    assert len(find_objects(known).proposals) == 2


@pytest.mark.parametrize("name", ["red_mug", "green_bowl", "mustard", "cheezit"])
def test_real_frames_hold_one_thing_each(name: str, real_frames: Path) -> None:
    frame: RgbdFrame = FrameCell(real_frames / name).look()
    truth = cv2.imread(str(real_frames / f"{name}_object_mask.png"), 0) > 0
    (proposal,) = find_objects(frame).proposals
    box = np.zeros_like(truth)
    x0, y0, x1, y1 = proposal.box
    box[y0:y1, x0:x1] = True
    ys, xs = np.nonzero(truth)
    true_box = np.zeros_like(truth)
    true_box[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
    assert iou(box, true_box) > 0.9
    assert iou(proposal.mask, truth) > 0.9
