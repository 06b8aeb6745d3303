"""Where the handle of a thing is, from its shape alone.

A vessel (as wide as long, and tall): the handle is what sticks out of the round body. A tool (long): its profile along
the long axis - width, height, colour - has one step; the handle is the side that fits the kind of tool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array
from affordagent.core.types import Mask, ObjectProposal, RgbdFrame, TableScene
from affordagent.tools.clusters import opened_2x2

Side = Literal["narrow", "wide", "tall"]

# Which side of the step is the handle. Not listed: narrow when the other side is too wide to be a grip, else tall.
HANDLE_SIDE: dict[str, Side] = {
    "hammer": "narrow",
    "adjustable wrench": "narrow",
    "combination wrench": "narrow",
    "ratchet": "narrow",
    "utensil": "narrow",
    "screwdriver": "tall",
    "knife": "tall",
    "fixed joint pliers": "wide",
    "slip joint pliers": "wide",
    "locking pliers": "wide",
    "scissors": "wide",
}
HANDLES = ("handle", "grip", "shaft", "stem")
RIMS = ("rim", "lip", "edge", "mouth")
BIN_M = 0.003
VESSEL_ELONGATION = 1.6  # longer things are tools
VESSEL_HEIGHT_M = 0.045
MIN_PART_PX = 25
WIDEST_GRIP_M = 0.05
WIDE_MIDDLE = 0.8  # of the widest place: where the middle of a thing with two ends begins
SHORTEST_END = 0.1  # of the length


@dataclass(frozen=True)
class PlanView:
    """The pixels of one thing, metric. rows, columns: (N,) pixel indices; x, y: (N,) along and across its long axis on
    the table, metres; height: (N,) above the table; measured: (N,) False where the depth was missing."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    x: Array
    y: Array
    height: Array
    measured: Mask

    @property
    def length_m(self) -> float:
        low, high = np.percentile(self.x, [0.5, 99.5])
        return float(high - low)

    @property
    def width_m(self) -> float:
        low, high = np.percentile(self.y, [0.5, 99.5])
        return float(high - low)

    @property
    def height_m(self) -> float:
        return float(np.percentile(self.height, 98))

    def mask(self, chosen: Mask, shape: tuple[int, ...]) -> Mask:
        out = np.zeros(shape, bool)
        out[self.rows[chosen], self.columns[chosen]] = True
        return out


def plan_view(frame: RgbdFrame, scene: TableScene, proposal: ObjectProposal) -> PlanView:
    """Each pixel's place on the table; where depth is missing, the ray is cut at the thing's median height."""
    rows, columns = np.nonzero(proposal.mask)
    camera, plane = frame.camera, scene.plane_camera
    rays = np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones(len(rows))], axis=1)
    depth = frame.depth_m[rows, columns].astype(np.float64)
    measured = (depth > 0) & (scene.height_m[rows, columns] > -0.01)
    middle = float(np.median(scene.height_m[rows, columns][measured])) if measured.any() else 0.0
    to_middle = (middle - plane[3]) / (rays @ plane[:3])
    points = rays * np.where(measured, depth, to_middle)[:, None]
    height = points @ plane[:3] + plane[3]
    axes = np.linalg.svd(plane[None, :3])[2][1:].T  # (3, 2)
    flat = points @ axes
    # The hull's axis: pixel density must not matter, since the near side has more pixels.
    hull = cv2.convexHull(flat[measured if measured.sum() > 50 else slice(None)].astype(np.float32))
    (_, _), (w, h), angle = cv2.minAreaRect(hull)
    angle_rad = np.radians(angle + (90 if h > w else 0))
    along = np.array([np.cos(angle_rad), np.sin(angle_rad)])
    across = np.array([-along[1], along[0]])
    centred = flat - hull.reshape(-1, 2).mean(0)
    return PlanView(rows, columns, centred @ along, centred @ across, height, measured)


def has_depth(frame: RgbdFrame, proposal: ObjectProposal) -> bool:
    """Whether any pixel of the proposal was measured."""
    return bool((frame.depth_m[proposal.mask] > 0).any())


def part_by_geometry(
    frame: RgbdFrame, scene: TableScene, proposal: ObjectProposal, part: str, category: str | None = None
) -> Mask | None:
    """(H, W) mask of a part of one proposal, None where its shape shows no such part or nothing of it has depth.

    "handle" (grip, shaft, stem) is found by shape; "rim" is the top of a vessel's body; any other word (blade, head,
    body, bowl) is what the handle leaves. `category` only says which end of a straight tool is the handle.
    """
    if not has_depth(frame, proposal):
        return None
    view = plan_view(frame, scene, proposal)
    shape = proposal.mask.shape
    vessel = view.height_m > VESSEL_HEIGHT_M and view.length_m < VESSEL_ELONGATION * view.width_m
    if vessel:
        chosen = _outside_round_body(view)
        handle = None if chosen is None else _tidy(view.mask(chosen, shape), proposal.mask)
        if handle is None:
            handle = _thin_remainder(proposal.mask)
    else:
        chosen = _side_of_step(view, frame.color, category)
        handle = None if chosen is None else _tidy(view.mask(chosen, shape), proposal.mask)
    if part in HANDLES:
        return handle
    body = proposal.mask if handle is None else proposal.mask & ~handle
    if part in RIMS:
        top = np.zeros(shape, bool)
        top[view.rows, view.columns] = view.height > 0.85 * view.height_m
        body = body & top
    elif handle is None:
        return None
    return body if body.sum() >= MIN_PART_PX else None


def _tidy(part: Mask, whole: Mask) -> Mask | None:
    """The part without specks: its largest component and those at least a fifth as large."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(opened_2x2(part).astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    area = stats[1:, cv2.CC_STAT_AREA]
    keep = 1 + np.flatnonzero(area >= 0.2 * area.max())
    out = np.isin(pieces, keep) & whole
    return out if out.sum() >= MIN_PART_PX else None


# Vessels


def _outside_round_body(view: PlanView) -> Mask | None:
    """(N,) pixels further from the body's axis than its wall at their height; None when there is no round body or
    nothing sticks out."""
    fit = _body_circle(view)
    if fit is None:
        return None
    centre, radius = fit
    distance = np.hypot(view.x - centre[0], view.y - centre[1])
    edges = np.linspace(0, view.height_m, 9)
    level = np.clip(np.digitize(view.height, edges) - 1, 0, 7)
    wall = np.full(8, radius)
    for k in range(8):  # mugs taper: the wall's radius at each height, from the pixels that are near it
        near = view.measured & (level == k) & (np.abs(distance - radius) < 0.25 * radius)
        if near.sum() >= 20:
            wall[k] = np.median(distance[near])
    outside = view.measured & (distance > wall[level] + max(0.005, 0.08 * radius))
    share = outside.sum() / len(outside)
    return outside if 0.01 < share < 0.5 else None


def _body_circle(view: PlanView, tolerance_m: float = 0.003) -> tuple[Array, float] | None:
    """Centre and radius of the circle that holds most of the wall's points (RANSAC over triples, seeded)."""
    band = view.measured & (view.height > 0.15 * view.height_m) & (view.height < 0.95 * view.height_m)
    points = np.stack([view.x[band], view.y[band]], axis=1)
    if len(points) < 60:
        return None
    rng = np.random.default_rng(0)
    sample = points[rng.integers(len(points), size=min(800, len(points)))]
    a, b, c = points[rng.integers(len(points), size=(3, 600))]
    ab, ac = b - a, c - a
    cross = 2 * (ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
    good = np.abs(cross) > 1e-5
    a, ab, ac, cross = a[good], ab[good], ac[good], cross[good]
    ab2, ac2 = (ab**2).sum(1), (ac**2).sum(1)
    offset = np.stack([ac[:, 1] * ab2 - ab[:, 1] * ac2, ab[:, 0] * ac2 - ac[:, 0] * ab2], axis=1) / cross[:, None]
    centres, radii = a + offset, np.linalg.norm(offset, axis=1)
    fits = (radii > 0.3 * view.width_m) & (radii < 0.65 * view.length_m)
    if not fits.any():
        return None
    centres, radii = centres[fits], radii[fits]
    off = np.abs(np.linalg.norm(sample[None] - centres[:, None], axis=2) - radii[:, None])  # (K, 800)
    inliers = (off < tolerance_m + 0.02 * radii[:, None]).mean(1)
    best = int(np.argmax(inliers))
    return (centres[best], float(radii[best])) if inliers[best] > 0.3 else None


def _thin_remainder(mask: Mask) -> Mask | None:
    """What an opening by a disc of 0.45 of the inner radius takes away, largest piece, if it sticks out far enough."""
    solid = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    inner_px = float(cv2.distanceTransform(solid, cv2.DIST_L2, 5).max())
    k = 2 * max(2, round(0.45 * inner_px)) + 1
    body = cv2.morphologyEx(solid, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k)))
    count, pieces, stats, _ = cv2.connectedComponentsWithStats((mask & (body == 0)).astype(np.uint8))
    if count < 2:
        return None
    from_body = cv2.distanceTransform(1 - body, cv2.DIST_L2, 5)
    reach = np.array([from_body[pieces == k].max() for k in range(1, count)])
    best = int(np.argmax(stats[1:, cv2.CC_STAT_AREA] * reach))
    if reach[best] < 0.3 * inner_px or stats[1 + best, cv2.CC_STAT_AREA] < MIN_PART_PX:
        return None
    return pieces == 1 + best


# Straight tools


@dataclass(frozen=True)
class Profile:
    """Along the long axis, bins of BIN_M. width, height: (B,) metres; lab: (B, 3) mean colour."""

    width: Array
    height: Array
    lab: Array


def _profile(view: PlanView, color: NDArray[np.uint8]) -> tuple[Profile, NDArray[np.intp]]:
    """The profile, and each pixel's bin."""
    start = float(np.percentile(view.x, 0.3))
    count = max(8, int(np.ceil((np.percentile(view.x, 99.7) - start) / BIN_M)))
    index = np.clip(((view.x - start) / BIN_M).astype(np.intp), 0, count - 1)
    lab_of = cv2.cvtColor(color, cv2.COLOR_RGB2LAB)[view.rows, view.columns].astype(np.float64)
    width, height, lab = np.full(count, np.nan), np.full(count, np.nan), np.full((count, 3), np.nan)
    for k in range(count):
        here = index == k
        if here.sum() < 2:
            continue
        low, high = np.percentile(view.y[here], [3, 97])
        width[k], height[k], lab[k] = high - low, np.percentile(view.height[here], 90), lab_of[here].mean(0)
    known = np.flatnonzero(np.isfinite(width))
    bins = np.arange(count)
    columns = [np.interp(bins, known, v[known]) for v in (width, height, *lab.T)]
    columns = [cv2.blur(c.reshape(1, -1), (5, 1), borderType=cv2.BORDER_REPLICATE).ravel() for c in columns]
    return Profile(columns[0], columns[1], np.stack(columns[2:], axis=1)), index


def _side_of_step(view: PlanView, color: NDArray[np.uint8], category: str | None) -> Mask | None:
    """(N,) pixels on the handle's side of the profile's step."""
    profile, index = _profile(view, color)
    if category is None and (ends := _both_ends(profile)) is not None:
        return ends[index]
    side = HANDLE_SIDE.get(category or "")
    if side is None:
        low, high = np.percentile(profile.width, [25, 97])
        side = "narrow" if high > max(WIDEST_GRIP_M, 1.5 * low) else "tall"
    bins = _narrow_run(profile) if side == "narrow" else _step_side(profile, side)
    return bins[index] if bins is not None else None


def _both_ends(profile: Profile) -> Mask | None:
    """(B,) the two ends of a thing that is wide in its middle alone, such as a rolling pin: alike in length and width,
    and narrow enough to grip. None for any other shape."""
    width, count = profile.width, len(profile.width)
    wide = _longest_run(width > WIDE_MIDDLE * np.percentile(width, 95))
    at = np.flatnonzero(wide)
    if not len(at):
        return None
    left, right = int(at[0]), count - 1 - int(at[-1])  # bins before and after
    low, high = sorted((left, right))
    if low < SHORTEST_END * count or high > 2 * low or low + high > 0.7 * count:
        return None
    before, after = float(width[:left].mean()), float(width[count - right :].mean())
    return ~wide if max(before, after) < min(1.4 * min(before, after), WIDEST_GRIP_M) else None


def _narrow_run(profile: Profile) -> Mask | None:
    """(B,) the longest run of bins narrower than the best threshold between two classes of widths (Otsu 1979)."""
    width = profile.width
    levels = np.sort(width)
    variance = [np.var(levels[:k]) * k + np.var(levels[k:]) * (len(levels) - k) for k in range(2, len(levels) - 1)]
    split = int(np.argmin(variance)) + 2
    narrow, wide = float(levels[:split].mean()), float(levels[split:].mean())
    run = _longest_run(width < narrow + 0.35 * (wide - narrow))
    if (
        run.sum() < 0.4 * len(width) and wide < WIDEST_GRIP_M
    ):  # a grip wider than its neck: only what is wider still is the head
        run = _longest_run(width < wide + 0.35 * (levels[-1] - wide))
    return run if run.sum() >= 5 else None


def _longest_run(inside: Mask) -> Mask:
    """The longest stretch of True, alone."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
    out = np.zeros(len(inside), bool)
    if len(edges):
        k = int(np.argmax(edges[1::2] - edges[::2]))
        out[edges[2 * k] : edges[2 * k + 1]] = True
    return out


def _step_side(profile: Profile, side: Side) -> Mask | None:
    """(B,) one side of the best step in width, height and colour together: the taller or the wider one."""
    features = np.column_stack([profile.width / 0.01, profile.height / 0.006, profile.lab / 20])
    count = len(features)
    low = max(4, count // 6)
    cost = [features[:k].var(0).sum() * k + features[k:].var(0).sum() * (count - k) for k in range(low, count - low)]
    if not cost:
        return None
    k = int(np.argmin(cost)) + low
    measure = profile.height + 0.3 * np.minimum(profile.width, 0.03) if side == "tall" else profile.width
    first = measure[:k].mean() > measure[k:].mean()
    out = np.zeros(count, bool)
    out[slice(0, k) if first else slice(k, count)] = True
    return out
