"""From where others would put a hand to where ours goes: what lies between the fingers is measured on the part.

Networks know where to grasp but not precisely: Contact-GraspNet's widths are off by 6 to 9 mm, GraspNet's angles come
in steps of 15 degrees. So a pose is taken as a proposal: the part between its fingers is measured, the hand is put amid
it, its closing axis is turned square to the two surfaces where that is a small turn, and its depth is set for our
fingers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import PartCloud, RgbdFrame
from affordagent.tools.grasping.antipodal import (
    FRICTION,
    MIN_WIDTH_M,
    PATCH_DEPTH_M,
    PATCH_RADIUS_M,
    Candidates,
    Contacts,
    aligned,
    hands,
    measured,
    too_wide,
)
from affordagent.tools.grasping.completion import Surface
from affordagent.tools.grasping.gripper import ParallelGripper

BEHIND_TIP_M, PAST_TIP_M = 0.03, 0.006  # part of the fingers that may hold something, along the approach
REACH_M = 0.055  # half of the widest opening of the hands that networks were trained with
MAX_TURN_DEG = 12.0
FACING = 0.6  # cosine to the closing axis from which a piece of surface counts as facing a finger


class Refined(ABC):
    """The half that all learned backends share: what they propose is refined on the part."""

    name: str

    @abstractmethod
    def proposals(self, frame: RgbdFrame | None, cloud: PartCloud, rng: np.random.Generator) -> tuple[Array, int]:
        """(G, 4, 4) fingertip poses in the base frame, see `refine`, most confident first; and how many were seen."""

    def candidates(
        self,
        frame: RgbdFrame | None,
        cloud: PartCloud,
        part: Surface,
        gripper: ParallelGripper,
        rng: np.random.Generator,
    ) -> Candidates:
        """See `backends.Backend`; also tool.unavailable where there is nothing to ask, or it fails."""
        T_base_tip, found = self.proposals(frame, cloud, rng)
        return refine(T_base_tip, part, gripper, cloud.table_z_m, self.name, found)


def refine(
    T_base_tip: Array, part: Surface, gripper: ParallelGripper, table_z_m: float, proposer: str, found: int
) -> Candidates:
    """Hand poses of `gripper` near proposed ones, measured on the part.

    T_base_tip: (G, 4, 4) proposed poses, axes as of a tcp (z = approach, y = closing axis), origin amid the fingertips.
    proposer, found: who proposed them, and how many grasps it saw in the whole scene; for the message.

    Raises:
        StageFailure: ("propose", code): grasp.none (no proposal is antipodal with the part between its fingers),
            grasp.too_wide, grasp.collides_surface (none can be reached with the tips off the table).
    """
    contacts, approach, counts = _contacts(T_base_tip, part)
    counts = {"in_scene": found, "on_part": len(T_base_tip), **counts}
    if len(approach) == 0:
        raise StageFailure(
            "propose",
            "grasp.none",
            f"{proposer} sees {found} grasps in the scene, {len(T_base_tip)} of them on the part; "
            f"{counts['between_fingers']} have it between the fingers, none of these is antipodal",
            **counts,
        )
    fits = contacts.width_m <= gripper.max_width_m
    if not fits.any():
        raise too_wide(float(contacts.width_m.min()), gripper)
    candidates = hands(contacts.take(fits), approach[fits], gripper, table_z_m)
    if len(candidates) == 0:
        raise StageFailure(
            "propose",
            "grasp.collides_surface",
            f"none of the {int(fits.sum())} grasps of {proposer} can be reached from above with the tips "
            f"{gripper.table_clearance_m * 1e3:.1f} mm off the table",
            **counts,
        )
    return candidates


def tips_of(T_hand: Array, depth_m: float) -> Array:
    """(G, 4, 4) fingertip poses with the axes of a tcp, of hands (G, 4, 4) whose x is the closing axis and whose z is
    the approach, as the Panda's and GraspGen's; depth_m: from the hand's origin to the tips."""
    T = T_hand.copy()
    x, y, z = np.moveaxis(T_hand[:, :3, :3], -1, 0)
    T[:, :3, :3] = np.stack([-y, x, z], -1)
    T[:, :3, 3] += depth_m * z
    return T


def _contacts(T_base_tip: Array, part: Surface) -> tuple[Contacts, Array, dict[str, int]]:
    """The antipodal contacts near proposed poses, their approaches (K, 3), and how many were left after each step."""
    local = np.einsum("gnk,gkj->gnj", part.points[None] - T_base_tip[:, None, :3, 3], T_base_tip[:, :3, :3])
    x, y, z = np.moveaxis(local, -1, 0)
    held = (np.abs(x) < PATCH_RADIUS_M) & (np.abs(y) < REACH_M) & (z > -BEHIND_TIP_M) & (z < PAST_TIP_M)
    low, high = np.where(held, y, np.inf).min(1, initial=np.inf), np.where(held, y, -np.inf).max(1, initial=-np.inf)
    near_border_m = REACH_M - part.spacing_m  # what reaches there is longer than the hand opens
    some = (held.sum(1) >= 3) & (low > -near_border_m) & (high < near_border_m)
    T, z, held, low, high = T_base_tip[some], z[some], held[some], low[some], high[some]
    depth = np.where(held, z, 0.0).sum(1) / np.maximum(held.sum(1), 1)
    middle = T[:, :3, 3] + ((low + high) / 2)[:, None] * T[:, :3, 1] + depth[:, None] * T[:, :3, 2]
    proposed = Contacts(middle, T[:, :3, 1], high - low, np.zeros(len(T)))
    contacts = measured(part, proposed)
    for _ in range(2):
        turned = aligned(part, contacts)
        little = np.einsum("kc,kc->k", turned.closing, proposed.closing) > np.cos(np.radians(MAX_TURN_DEG))
        contacts = _chosen(little, turned, contacts)
    contacts = replace(contacts, quality=_quality(part, contacts))
    approach = T[:, :3, 2] - np.einsum("kc,kc->k", T[:, :3, 2], contacts.closing)[:, None] * contacts.closing
    length = np.linalg.norm(approach, axis=1)
    good = (contacts.quality >= np.cos(np.arctan(FRICTION))) & (length > 0.5) & (contacts.width_m >= MIN_WIDTH_M)
    approach = approach[good] / length[good, None]
    return contacts.take(good), approach, {"between_fingers": len(T), "antipodal": int(good.sum())}


def _chosen(where: Array, one: Contacts, other: Contacts) -> Contacts:
    """Row by row the one where True, else the other."""
    values = ((name, getattr(one, name), getattr(other, name)) for name in vars(one))
    return Contacts(**{name: np.where(where.reshape(-1, *[1] * (a.ndim - 1)), a, b) for name, a, b in values})


def _quality(part: Surface, contacts: Contacts) -> Array:
    """(K,) cosine between the closing axis and the mean normal of the worse of the two patches; 0 where one lacks."""
    d = part.points[None] - contacts.middle[:, None]
    y = np.einsum("knc,kc->kn", d, contacts.closing)
    near = np.einsum("knc,knc->kn", d, d) - y * y < PATCH_RADIUS_M**2
    near &= np.abs(np.abs(y) - contacts.width_m[:, None] / 2) < PATCH_DEPTH_M
    facing = contacts.closing @ part.normals.T
    worst = np.full(len(y), np.inf)
    for side in (-1.0, 1.0):
        patch = near & (side * y > 0) & (side * facing > FACING)
        normal = patch.astype(float) @ part.normals
        length = np.maximum(np.linalg.norm(normal, axis=1), 1e-9)
        cosine = side * np.einsum("kc,kc->k", normal, contacts.closing) / length
        worst = np.minimum(worst, np.where(patch.any(1), cosine, 0.0))
    return worst
