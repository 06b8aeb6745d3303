"""From pixels above the table to one mask an object.

Pixels connect to their image neighbours when they are also neighbours in 3D, so a thing is cut from what stands behind
it. Pieces of one thing that a depth hole or its own shape tore apart are put together again (`assemble`), and depth
holes inside a mask are filled where the colour agrees.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from affordagent.core.geometry import Array
from affordagent.core.types import Mask, RgbdFrame

MIN_PIXELS = 30  # a piece smaller than this is noise
TOUCHING_M = 0.015  # pieces nearer than this may be one thing
MIN_FLOOR_M2 = 8e-4  # an enclosed hole smaller than this is no floor of a pan
BRIDGE_M = 0.05  # longest depth hole that two collinear pieces of a tool may span

Labels = NDArray[np.int32]


def plane_normal(points: Array, mask: Mask) -> Array:
    """(3,) least-squares normal of the masked points, towards the camera."""
    inliers = every(13, points, mask)
    centre = inliers.mean(0)
    normal = np.linalg.svd(inliers - centre, full_matrices=False)[2][2]
    return normal * (1.0 if -centre @ normal > 0 else -1.0)


def every(step: int, points: Array, mask: Mask) -> Array:
    """(N, 3) every so-manieth of the masked points (H, W, 3)."""
    return points.reshape(-1, 3)[np.flatnonzero(mask)[::step]]


def connect(
    frame: RgbdFrame, points: Array, height: NDArray[np.float32], sigma: NDArray[np.float32], valid: Mask
) -> Labels:
    """(H, W) labels of connected pieces above the table, 0 = none.

    Hysteresis: a piece needs pixels that stand clear of the noise (4 sigma, at least 5 mm). It takes those around them
    that are merely likely (2.5 sigma, at least 2.5 mm) and, where the depth is clean enough to tell, thin sheets at any
    distance (5 sigma, at least 1.2 mm: the blade of a spatula).
    """
    smooth = cv2.medianBlur(np.nan_to_num(height, nan=0.0).astype(np.float32), 3)
    valid = valid & (height > 0.5 * smooth)  # the median must not carry an object's rim onto the table behind it
    clear = valid & (smooth > np.maximum(0.005, 4 * sigma))
    clear = opened_2x2(clear)
    likely = valid & (smooth > np.maximum(0.0025, 2.5 * sigma))
    around = cv2.dilate(clear.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    sheet = valid & (smooth > np.maximum(0.0012, 5 * sigma))
    above = clear | (likely & around) | _reached(sheet, clear)
    labels = _components(above, frame.depth_m)
    count = np.bincount(labels.ravel())
    backed = np.bincount(labels[clear], minlength=len(count))
    keep = (count >= MIN_PIXELS) & (backed >= 0.1 * count)
    keep[0] = False
    return np.where(keep[labels], labels, 0).astype(np.int32)


def opened_2x2(mask: Mask) -> Mask:
    """Opening by a 2 x 2 square. (OpenCV's own MORPH_OPEN shifts the result by a pixel when the kernel is even.)"""
    square = np.ones((2, 2), np.uint8)
    return cv2.dilate(cv2.erode(mask.astype(np.uint8), square, anchor=(0, 0)), square, anchor=(1, 1)) > 0


def _reached(mask: Mask, seeds: Mask) -> Mask:
    """The 8-connected components of `mask` that hold a seed."""
    _, pieces = cv2.connectedComponents((mask | seeds).astype(np.uint8), connectivity=8)
    found = np.zeros(pieces.max() + 1, bool)
    found[pieces[seeds]] = True
    found[0] = False
    return found[pieces]


def _components(mask: Mask, depth_m: NDArray[np.float32]) -> Labels:
    """Connected components of 8-neighbours whose depths differ by less than 12 mm + 1 % of the depth."""
    index = np.full(mask.shape, -1, np.int64)
    index[mask] = np.arange(int(mask.sum()))
    rows, columns = [], []
    h, w = mask.shape
    for dv, du in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, h - dv), slice(max(0, -du), w - max(0, du)))
        there = (slice(dv, h), slice(max(0, du), w + min(0, du)))
        near = np.abs(depth_m[here] - depth_m[there]) < 0.012 + 0.01 * depth_m[here]
        joined = mask[here] & mask[there] & near
        rows.append(index[here][joined])
        columns.append(index[there][joined])
    i, j = np.concatenate(rows), np.concatenate(columns)
    n = int(mask.sum())
    _, component = connected_components(coo_matrix((np.ones(len(i), np.int8), (i, j)), shape=(n, n)), directed=False)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = component + 1
    return labels


def assemble(frame: RgbdFrame, points: Array, height: NDArray[np.float32], labels: Labels, plane: Array) -> list[Mask]:
    """Masks of the things: pieces joined, holes filled, edges cleaned."""
    names = [int(k) for k in np.unique(labels) if k]
    pieces = [labels == k for k in names]
    lab = cv2.cvtColor(frame.color, cv2.COLOR_RGB2LAB).astype(np.float32)
    groups = _join(pieces, points, plane, lab, frame.depth_m > 0)
    masks = []
    for group in groups:
        mask = np.any([pieces[i] for i in group], axis=0)
        masks.append(_floored(_fill(mask, frame.depth_m > 0, lab), frame, height, lab))
    return masks


def _join(pieces: list[Mask], points: Array, plane: Array, lab: NDArray[np.float32], valid: Mask) -> list[list[int]]:
    """Groups of pieces that are one thing."""
    pixels = [np.flatnonzero(p) for p in pieces]
    sizes = [len(p) for p in pixels]
    clouds = [points.reshape(-1, 3)[p[:: max(1, len(p) // 800)]] for p in pixels]
    trees = [cKDTree(c) for c in clouds]
    shades = [np.median(lab.reshape(-1, 3)[p], axis=0).astype(np.float64) for p in pixels]
    boxes = [(c.min(0), c.max(0)) for c in clouds]
    group = list(range(len(pieces)))
    for i in range(len(pieces)):
        for j in range(i):
            if group[i] == group[j] or _box_gap(boxes[i], boxes[j]) > BRIDGE_M:
                continue
            gap_m = float(trees[j].query(clouds[i])[0].min())
            crumb = gap_m < TOUCHING_M and 12 * min(sizes[i], sizes[j]) < max(sizes[i], sizes[j])
            if crumb or _one_thing(clouds[i], clouds[j], gap_m, shades[i], shades[j], plane):
                old, new = group[i], group[j]
                group = [new if g == old else g for g in group]
    return [[i for i, g in enumerate(group) if g == name] for name in dict.fromkeys(group)]


def _box_gap(a: tuple[Array, Array], b: tuple[Array, Array]) -> float:
    """Distance of two axis-aligned boxes (low, high), a lower bound of that of what they hold."""
    return float(np.linalg.norm(np.maximum(0, np.maximum(a[0] - b[1], b[0] - a[1]))))


def _one_thing(a: Array, b: Array, gap_m: float, shade_a: Array, shade_b: Array, plane: Array) -> bool:
    """Nearly touching with like colour or one standing over the other's footprint, or two ends of one straight tool."""
    if gap_m > BRIDGE_M:
        return False
    alike = float(np.linalg.norm(shade_a - shade_b)) < 35
    if gap_m < TOUCHING_M and (alike or _overlap(a, b, plane) > 0.5):
        return True
    return alike and _collinear(a, b)


def _overlap(a: Array, b: Array, plane: Array) -> float:
    """Share of the smaller piece's footprint that lies within the other's convex footprint."""
    n = plane[:3]
    axes = np.linalg.svd(n[None])[2][1:].T  # (3, 2)
    small, large = (a, b) if len(a) < len(b) else (b, a)
    hull = cv2.convexHull((large @ axes).astype(np.float32))
    inside = [cv2.pointPolygonTest(hull, (float(x), float(y)), False) >= 0 for x, y in (small @ axes)[::5]]
    return float(np.mean(inside))


def _collinear(a: Array, b: Array) -> bool:
    """Both lie within 1.5 cm of the line along the longer one, which is long and thin."""
    longer, shorter = (a, b) if np.ptp(a, axis=0).max() > np.ptp(b, axis=0).max() else (b, a)
    centre = longer.mean(0)
    _, s, axes = np.linalg.svd(longer - centre, full_matrices=False)
    if s[0] < 3.5 * s[1]:
        return False
    offset = shorter.mean(0) - centre
    across = offset - (offset @ axes[0]) * axes[0]
    return bool(np.linalg.norm(across) < 0.015)


def _fill(mask: Mask, valid: Mask, lab: NDArray[np.float32]) -> Mask:
    """The mask with enclosed specks closed, and with its depth holes where their colour is the mask's own rather than
    the surroundings'."""
    x0, y0, w, h = cv2.boundingRect(mask.astype(np.uint8))
    pad = 30  # as far as the blurs below reach
    window = (slice(max(0, y0 - pad), y0 + h + pad), slice(max(0, x0 - pad), x0 + w + pad))
    out = mask.copy()
    out[window] = _filled(mask[window], valid[window], lab[window])
    return out


def _filled(mask: Mask, valid: Mask, lab: NDArray[np.float32]) -> Mask:
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
    out = mask | (closed & ~valid)
    near = cv2.dilate(out.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    count, holes = cv2.connectedComponents((near & ~valid & ~out).astype(np.uint8), connectivity=4)
    if count < 2:
        return out
    asked = holes > 0
    inside, weight_in = _shade_around(out, lab, 6, asked)
    outside, _ = _shade_around(valid & ~out, lab, 10, asked)
    to_inside = np.linalg.norm(lab[asked] - inside, axis=1)
    to_outside = np.linalg.norm(lab[asked] - outside, axis=1)
    own = np.zeros(mask.shape, bool)
    own[asked] = (weight_in > 0.05) & (to_inside < 25) & (to_inside < 0.5 * to_outside)
    own = cv2.morphologyEx(own.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    return _reached(out | own, mask)


def _shade_around(
    mask: Mask, lab: NDArray[np.float32], sigma: float, asked: Mask
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, 3) mean colour of the masked pixels about each pixel of `asked`, weighed by a Gaussian, and (N,) the sum of
    the weights. Blurred at half size: what is blurred so much looks the same."""
    h, w = mask.shape
    half = ((w + 1) // 2, (h + 1) // 2)
    both = np.dstack([np.where(mask[..., None], lab, 0), mask]).astype(np.float32)
    small = cv2.GaussianBlur(cv2.resize(both, half, interpolation=cv2.INTER_AREA), (0, 0), sigma / 2)
    blurred = np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)[asked]
    means = blurred[:, :3] / np.maximum(blurred[:, 3:], 1e-3)
    return means.astype(np.float32, copy=False), blurred[:, 3]


def _floored(mask: Mask, frame: RgbdFrame, height: NDArray[np.float32], lab: NDArray[np.float32]) -> Mask:
    """The mask with the floors of pans and bowls: large enclosed holes that do not look like table, by height (1.5 mm
    above it) or by colour. A hole that shows the table (the eye of a handle) stays."""
    x0, y0, w, h = cv2.boundingRect(mask.astype(np.uint8))
    pad = 12
    window = (slice(max(0, y0 - pad), y0 + h + pad), slice(max(0, x0 - pad), x0 + w + pad))
    local, shade, above = mask[window], lab[window], height[window]
    _, outside = cv2.connectedComponents((~np.pad(local, 1)).astype(np.uint8), connectivity=4)
    hole = (outside[1:-1, 1:-1] != outside[0, 0]) & ~local
    count, holes = cv2.connectedComponents(hole.astype(np.uint8), connectivity=4)
    table = ~local & ~hole & (np.abs(above) < 0.005)
    if count < 2 or not table.any():
        return mask
    table_shade = np.median(shade[table], axis=0)
    spread = float(np.median(np.linalg.norm(shade[table] - table_shade, axis=1)))
    area = frame.depth_m[window].astype(np.float64) ** 2 / (frame.camera.fx * frame.camera.fy)
    out = mask.copy()
    for k in range(1, count):
        inside = holes == k
        measured = inside & np.isfinite(above)
        if area[inside].sum() < MIN_FLOOR_M2 or not measured.any():
            continue
        raised = float(np.median(above[measured])) > 0.0015
        foreign = float(np.linalg.norm(np.median(shade[inside], axis=0) - table_shade)) > 30 + 2 * spread
        if raised or foreign:
            out[window] |= inside
    return out
