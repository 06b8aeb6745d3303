"""What the pads would meet: every candidate hand is closed on the completed part, and centred on what it meets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array
from affordagent.tools.grasping.antipodal import MIN_WIDTH_M, Candidates
from affordagent.tools.grasping.completion import Surface
from affordagent.tools.grasping.gripper import ParallelGripper

TOUCH_M = 0.002  # surface this near to the first contact is touched too
FACING = 0.3  # cosine to the closing axis: tops and undersides are not what the pads lie on
ROUNDS = 2  # of centring: a hand that is moved meets other things
CHUNK = 300  # hands looked at together, which bounds the memory


def closed(candidates: Candidates, surface: Surface, gripper: ParallelGripper) -> Candidates:
    """The candidates moved along their closing axis until what the pads meet lies amid them; widths and qualities
    measured there. quality: cosine of the worst angle between the mean normal of what either pad touches, and the
    closing axis or the line from one contact to the other. Hands that would close on nothing are dropped.
    """
    for _ in range(ROUNDS):
        if len(candidates) == 0:
            break
        width_m, shift_m, quality = _meet(candidates, surface, gripper)
        T = candidates.T_base_tcp.copy()
        longer_m = gripper.tip_past_tcp_m(width_m) - gripper.tip_past_tcp_m(candidates.width_m)
        T[:, :3, 3] += shift_m[:, None] * T[:, :3, 1] - longer_m[:, None] * T[:, :3, 2]  # the tips stay as deep
        candidates = replace(candidates, T_base_tcp=T, width_m=width_m, quality=quality).take(width_m > 0)
    return candidates


def _meet(candidates: Candidates, surface: Surface, gripper: ParallelGripper) -> tuple[Array, Array, Array]:
    chunks = [slice(start, start + CHUNK) for start in range(0, len(candidates), CHUNK)]
    parts = [_meet_chunk(candidates.take(np.arange(len(candidates))[chunk]), surface, gripper) for chunk in chunks]
    width, shift, quality = (np.concatenate([np.zeros(0), *column]) for column in zip(*parts, strict=True))
    return width, shift, quality


def _meet_chunk(candidates: Candidates, surface: Surface, gripper: ParallelGripper) -> tuple[Array, Array, Array]:
    """Width between the first contacts (0 where there are none), their middle along the closing axis, quality; (G,)."""
    T = candidates.T_base_tcp
    centre = T[:, :3, 3].mean(0)
    points, normals = (surface.points - centre).astype(np.float32), surface.normals.astype(np.float32)

    def along(axis: int) -> NDArray[np.float32]:  # (G, N)
        direction = T[:, :3, axis]
        shift = np.einsum("gk,gk->g", T[:, :3, 3] - centre, direction)
        return direction.astype(np.float32) @ points.T - shift[:, None].astype(np.float32)

    x, y, z = along(0), along(1), along(2)
    tip = gripper.tip_past_tcp_m(candidates.width_m)[:, None]
    reach = gripper.opening_for_m(candidates.width_m)[:, None] / 2
    between = (np.abs(x) <= gripper.pad_width_m / 2) & (np.abs(y) <= reach)
    between &= (z <= tip) & (z >= tip - gripper.pad_length_m)
    facing = T[:, :3, 1].astype(np.float32) @ normals.T
    low, high = np.where(between, y, np.inf).min(1), np.where(between, y, -np.inf).max(1)
    found = high - low > MIN_WIDTH_M
    low, high = np.where(found, low, 0.0), np.where(found, high, 0.0)
    touch_m = max(TOUCH_M, 0.5 * surface.spacing_m)
    patches = (
        between & (facing < -FACING) & (y < low[:, None] + touch_m),
        between & (facing > FACING) & (y > high[:, None] - touch_m),
    )
    width = high - low
    gap = np.stack([_gap(v, *patches, 0.3 * surface.spacing_m) for v in (x, z)], -1)
    line = np.stack([gap[:, 0], width, gap[:, 1]], -1) / np.maximum(np.hypot(width, np.hypot(*gap.T)), 1e-9)[:, None]
    quality = np.ones(len(T))
    for patch, sign in zip(patches, (-1.0, 1.0), strict=True):
        mean = sign * np.einsum("gk,gkj->gj", patch.astype(np.float32) @ normals, T[:, :3, :3])
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
        quality = np.minimum(quality, np.minimum(mean[:, 1], np.einsum("gj,gj->g", mean, line)))
    return width, (high + low) / 2, quality


def _gap(v: NDArray[np.float32], first: NDArray[np.bool_], second: NDArray[np.bool_], tolerance_m: float) -> Array:
    """(G,) how far along v one must go from the interval that the first patch fills to that of the second; 0 where they
    overlap."""

    def ends(patch: NDArray[np.bool_]) -> tuple[Array, Array]:
        return np.where(patch, v, np.inf).min(1), np.where(patch, v, -np.inf).max(1)

    (low_1, high_1), (low_2, high_2) = ends(first), ends(second)
    apart = np.stack([low_2 - high_1, low_1 - high_2]) - tolerance_m
    up, down = np.where(np.isfinite(apart), np.maximum(apart, 0.0), 0.0)
    return np.asarray(up - down)
