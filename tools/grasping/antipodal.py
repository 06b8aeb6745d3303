"""Antipodal grasps on a completed part: two contacts whose outward normals oppose the closing axis within friction
(Nguyen, "Constructing force-closure grasps", 1988), approached from above around that axis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import PartCloud, RgbdFrame
from affordagent.tools.grasping.completion import Surface
from affordagent.tools.grasping.gripper import ParallelGripper

FRICTION = 0.5
MIN_WIDTH_M = 0.002
LEVEL = 0.35  # closing axes that climb less than this (sine) are made horizontal,
THIN_M = 0.012  # unless the part is thinner than this
PATCH_RADIUS_M, PATCH_DEPTH_M = 0.010, 0.007
SPANS_M = (0.0, 0.015, 0.035, 0.06, np.inf)
STEEPEST = 0.6  # closing axes that climb more are dropped: one finger would have to reach under the part
TILTS_DEG = (0, -25, 25, -50, 50)
MAX_TILT_DEG = 60
MAX_PAIRS = 90
TIP_PAST_CONTACT_M = 0.016
MIN_TIP_PAST_CONTACT_M = 0.002


@dataclass(frozen=True)
class Contacts:
    """Opposing contact pairs: middle (K, 3), closing (K, 3) unit, width_m (K,) extent of the part between the pads,
    quality (K,) cosine of the worse angle between closing axis and surface normal."""

    middle: Array
    closing: Array
    width_m: Array
    quality: Array

    def take(self, index: NDArray[np.bool_] | NDArray[np.int_]) -> Contacts:
        return Contacts(**{name: values[index] for name, values in vars(self).items()})

    def join(self, other: Contacts) -> Contacts:
        return Contacts(**{name: np.concatenate([values, vars(other)[name]]) for name, values in vars(self).items()})


@dataclass(frozen=True)
class Candidates:
    """Hand poses T_base_tcp (G, 4, 4), before any look at the surroundings.

    All (G,): width_m, quality (see Contacts), tilt_rad of the approach from the vertical, tip_past_contact_m.
    """

    T_base_tcp: Array
    width_m: Array
    quality: Array
    tilt_rad: Array
    tip_past_contact_m: Array

    def __len__(self) -> int:
        return len(self.T_base_tcp)

    def take(self, index: NDArray[np.bool_] | NDArray[np.int_]) -> Candidates:
        return Candidates(**{name: values[index] for name, values in vars(self).items()})

    def drawn_back(self, by_m: float) -> Candidates:
        """The same hands, less deep."""
        T = self.T_base_tcp.copy()
        T[:, :3, 3] -= by_m * T[:, :3, 2]
        return replace(self, T_base_tcp=T, tip_past_contact_m=self.tip_past_contact_m - by_m)

    def join(self, other: Candidates) -> Candidates:
        return Candidates(**{name: np.concatenate([values, vars(other)[name]]) for name, values in vars(self).items()})


class Antipodal:
    """The grasp backend that needs no model: contact pairs of the completed part, approached from above."""

    name = "antipodal"

    def load(self) -> None:
        """Nothing to load."""

    def candidates(
        self,
        frame: RgbdFrame | None,
        cloud: PartCloud,
        part: Surface,
        gripper: ParallelGripper,
        rng: np.random.Generator,
    ) -> Candidates:
        """See `backends.Backend`; the frame is not needed."""
        contacts = contact_pairs(part, rng)
        if len(contacts.width_m) == 0:
            raise StageFailure(
                "propose",
                "grasp.none",
                "no two opposing surfaces were found on the part: look from another side or name another part",
            )
        fits = contacts.width_m <= gripper.max_width_m
        if not fits.any():
            raise too_wide(float(contacts.width_m.min()), gripper)
        found = approaches(contacts.take(fits), gripper, cloud.table_z_m)
        if len(found) == 0:
            raise StageFailure(
                "propose",
                "grasp.collides_surface",
                f"none of {int(fits.sum())} contact pairs can be reached with the tips "
                f"{gripper.table_clearance_m * 1e3:.1f} mm off the table: the part lies too flat",
                contact_pairs=int(fits.sum()),
            )
        return found


def too_wide(width_m: float, gripper: ParallelGripper) -> StageFailure:
    return StageFailure(
        "propose",
        "grasp.too_wide",
        f"the part is {width_m * 1e3:.0f} mm wide, the {gripper.name} grasps up to {gripper.max_width_m * 1e3:.0f} mm: "
        "name a thinner part",
        width_m=round(width_m, 4),
        max_width_m=gripper.max_width_m,
    )


def contact_pairs(surface: Surface, rng: np.random.Generator, seeds: int = 240) -> Contacts:
    """Contact pairs from `seeds` random surface points; the widths are not yet limited to what a gripper opens, so that
    the caller can tell "too wide" from "no grasp"."""
    p, n = surface.points, surface.normals
    first = rng.choice(len(p), min(seeds, len(p)), replace=False)
    v = p[None] - p[first, None]  # (S, N, 3)
    square = np.einsum("snc,snc->sn", v, v)
    distance = np.sqrt(square)
    out_of_first, into_second = -np.einsum("snc,sc->sn", v, n[first]), np.einsum("snc,nc->sn", v, n)
    axial = np.minimum(out_of_first, into_second)
    # points are samples: what lies beside a normal by less than their spacing may well lie on it
    beside = np.maximum(0.0, np.sqrt(np.maximum(square - axial**2, 0.0)) - 0.6 * surface.spacing_m)
    quality = axial / np.maximum(np.hypot(axial, beside), 1e-9)
    opposed = -n[first] @ n.T
    quality = np.minimum(quality, np.sqrt(np.maximum(0.0, (1 + opposed) / 2)))
    climb = np.abs(v[..., 2]) / np.maximum(distance, 1e-9)
    # of equally good partners the level ones are better, and the nearer ones are the ones the pads meet first
    preference = quality - 0.3 * climb - 1.0 * distance
    bad = (quality < np.cos(np.arctan(FRICTION))) | (climb > STEEPEST) & (distance > 0.01) | (axial < MIN_WIDTH_M)
    preference[bad] = -np.inf
    # the best partner within each span: across one bar of a tool, across both, across the whole
    spans = np.stack([np.where((distance >= a) & (distance < b), preference, -np.inf) for a, b in pairwise(SPANS_M)])
    columns, rows = spans.argmax(-1).ravel(), np.tile(np.arange(len(first)), len(spans))
    good = np.isfinite(spans.max(-1).ravel())
    rows, columns = rows[good], columns[good]
    closing = n[columns] - n[first[rows]]  # flatter on the pads than the line between two samples
    closing /= np.maximum(np.linalg.norm(closing, axis=1, keepdims=True), 1e-9)
    contacts = Contacts((p[first[rows]] + p[columns]) / 2, closing, distance[rows, columns], quality[rows, columns])
    contacts = contacts.take(_thinned(contacts))
    contacts = aligned(surface, aligned(surface, contacts))
    # a climbing axis pushes things aside, so it is made level; thin walls may slant and are taken either way
    climb = np.abs(contacts.closing[:, 2])
    slanting = contacts.take((climb < LEVEL) & (climb > 0.02) & (contacts.width_m < THIN_M))
    level = contacts.closing.copy()
    level[climb < LEVEL, 2] = 0.0
    level /= np.linalg.norm(level, axis=1, keepdims=True)
    return measured(surface, replace(contacts, closing=level)).join(slanting)


def _thinned(contacts: Contacts) -> NDArray[np.int_]:
    """At most `MAX_PAIRS` indices, the best of each cell of place (6 mm) and closing direction (20 degrees)."""
    y = contacts.closing
    y = y * np.where(y[:, :1] + 1e-3 * y[:, 1:2] < 0, -1, 1)
    cells = np.c_[np.round(contacts.middle / 0.006), np.round(y * 3)].astype(int)
    order = np.argsort(-contacts.quality, kind="stable")
    _, first = np.unique(cells[order], axis=0, return_index=True)
    return order[np.sort(first)][:MAX_PAIRS]


def aligned(surface: Surface, contacts: Contacts) -> Contacts:
    """Turn the closing axes square to the two patches they meet; those that would then climb stay as they are."""
    d = surface.points[None] - contacts.middle[:, None]  # (K, N, 3)
    y = np.einsum("knc,kc->kn", d, contacts.closing)
    near = np.einsum("knc,knc->kn", d, d) - y * y < PATCH_RADIUS_M**2  # squared distance from the closing line
    near &= np.abs(np.abs(y) - contacts.width_m[:, None] / 2) < PATCH_DEPTH_M
    facing = contacts.closing @ surface.normals.T
    patch = near & (facing * np.sign(y) > 0.6)
    closing = (patch * np.sign(facing)) @ surface.normals + 1e-3 * contacts.closing
    closing /= np.linalg.norm(closing, axis=1, keepdims=True)
    climbs = np.abs(closing[:, 2:]) > np.maximum(LEVEL, np.abs(contacts.closing[:, 2:]))
    return measured(surface, replace(contacts, closing=np.where(climbs, contacts.closing, closing)))


def measured(surface: Surface, contacts: Contacts) -> Contacts:
    """Measure how far the part reaches along the closing axes near the contacts; put the middle amid it."""
    d = surface.points[None] - contacts.middle[:, None]
    y = np.einsum("knc,kc->kn", d, contacts.closing)
    near = np.einsum("knc,knc->kn", d, d) - y * y < PATCH_RADIUS_M**2
    half = contacts.width_m / 2
    near &= np.abs(y) < half[:, None] + PATCH_DEPTH_M
    found = near.any(1)
    low = np.where(found, np.where(near, y, np.inf).min(1), -half)
    high = np.where(found, np.where(near, y, -np.inf).max(1), half)
    middle = contacts.middle + ((low + high) / 2)[:, None] * contacts.closing
    return replace(contacts, middle=middle, width_m=high - low)


def approaches(contacts: Contacts, gripper: ParallelGripper, table_z_m: float) -> Candidates:
    """Hand poses for contact pairs: approaches turned about the closing axis, as deep as the table allows.

    Poses whose tips would end short of the contacts when held off the table are dropped.
    """
    y = contacts.closing
    down = np.array([0, 0, -1.0]) - y * -y[:, 2:3]  # the most downward direction square to the closing axis
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    side = np.cross(y, down)
    tilt = np.radians(TILTS_DEG)
    z = np.cos(tilt)[:, None, None] * down + np.sin(tilt)[:, None, None] * side  # (R, K, 3)
    return hands(contacts.take(np.tile(np.arange(len(y)), len(tilt))), z.reshape(-1, 3), gripper, table_z_m)


def hands(contacts: Contacts, approach: Array, gripper: ParallelGripper, table_z_m: float) -> Candidates:
    """One hand pose for each contact pair, along its approach (K, 3) (unit, square to the closing axis), as deep as the
    table allows; poses whose tips would end short of the contacts, or that tilt too much, are dropped."""
    y, middle, width = contacts.closing, contacts.middle, contacts.width_m
    R = np.stack([np.cross(y, approach), y, approach], -1)
    tip = gripper.tip_past_tcp_m(width)
    origin = middle + (TIP_PAST_CONTACT_M - tip)[:, None] * R[:, :, 2]
    # lowest corner of the fingertips when closed on the part
    reach = np.stack([np.full_like(tip, gripper.pad_width_m / 2), width / 2 + 0.008, tip], -1)
    lowest = origin[:, 2] - np.abs(R[:, 2, 0]) * reach[:, 0] - np.abs(R[:, 2, 1]) * reach[:, 1] + R[:, 2, 2] * tip
    need = np.maximum(0.0, table_z_m + gripper.table_clearance_m - lowest)
    back = need / np.maximum(-R[:, 2, 2], 1e-6)  # drawn back along the approach
    origin = origin - back[:, None] * R[:, :, 2]
    T = np.tile(np.eye(4), (len(R), 1, 1))
    T[:, :3, :3], T[:, :3, 3] = R, origin
    tilt_rad = np.arccos(np.clip(-R[:, 2, 2], -1, 1))
    ok = (back < TIP_PAST_CONTACT_M - MIN_TIP_PAST_CONTACT_M) & (tilt_rad <= np.radians(MAX_TILT_DEG) + 1e-6)
    return Candidates(T, width, contacts.quality, tilt_rad, TIP_PAST_CONTACT_M - back).take(ok)
