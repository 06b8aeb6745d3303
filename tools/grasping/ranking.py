"""How good is a grasp? A plain list of terms, each in [0, 1]; the score is their weighted geometric mean, so that one
bad term cannot be bought back by the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array
from affordagent.robot.arms import ARMS, ArmName
from affordagent.tools.depth_projection import HAND_M
from affordagent.tools.grasping import scorer
from affordagent.tools.grasping.antipodal import FRICTION, STEEPEST, TIP_PAST_CONTACT_M, Candidates
from affordagent.tools.grasping.completion import Surface
from affordagent.tools.grasping.gripper import ParallelGripper

LEVER_M = 0.05  # lever arm of the weight about the pads that halves the balance term
CROWDED_M = 0.012  # surroundings nearer than this to the hand cost clearance
PATCH_DEPTH_M = 0.004  # surface this near to a pad counts as touched by it
FACING = 0.5  # cosine to the closing axis from which a piece of surface faces a pad
MET_FIRST_M, STRANGERS = 0.001, 2  # so many points of something else that reach this near to a pad touch it first
SURE_AIR_M, SURE_FRICTION = 0.003, 0.4
FIST_M = 0.045  # what is nearer to the tcp than this, a person cannot take hold of
AT_EASE = 0.85  # of the reach, up to which all is equally well
PATCH_HEIGHT_M = 0.012  # contact this tall along the approach is as good as any taller one


@dataclass(frozen=True)
class Touch:
    """What the pads would hold, per candidate (G,): extents of the touched patch along x and z, its middle's x, angle
    between the mean of its normals and the closing axis, share of the part among the points between the pads, share of
    the patch that was seen rather than guessed."""

    extent_x_m: Array
    extent_z_m: Array
    middle_x_m: Array
    skew_rad: Array
    purity: Array
    observed: Array


@dataclass(frozen=True)
class View:
    """All the terms look at. com: (3,) estimated centre of mass. clearance_m: (G,) air around the hand, at most
    `CROWDED_M`. rest: (N, 3) points of the object that are not of the part. table_z_m: height of the table.
    arm: the one that is to reach the grasps, its base at the origin."""

    grasps: Candidates
    touch: Touch
    part: Surface
    com: Array
    clearance_m: Array
    gripper: ParallelGripper
    rest: Array
    table_z_m: float
    arm: ArmName = "UR5e"


def antipodal(v: View) -> Array:
    worst = np.cos(np.arctan(FRICTION))
    return 0.5 + 0.5 * (v.grasps.quality - worst) / (1 - worst)


def coverage(v: View) -> Array:
    return np.sqrt(v.touch.extent_x_m / v.gripper.pad_width_m * np.minimum(1, v.touch.extent_z_m / PATCH_HEIGHT_M))


def purity(v: View) -> Array:
    return v.touch.purity


def seen(v: View) -> Array:
    """Of two opposing sides a camera sees one at best."""
    return 0.5 + v.touch.observed


def centred(v: View) -> Array:
    return 1 - np.abs(v.touch.middle_x_m) / (v.gripper.pad_width_m / 2)


def square(v: View) -> Array:
    """Pads flat on what they touch."""
    return 1 - v.touch.skew_rad / np.radians(45)


def across(v: View) -> Array:
    """A slender part is pinched across: fingers slide off its ends."""
    _, extent, axes = np.linalg.svd(v.part.points - v.part.points.mean(0), full_matrices=False)
    slender = 1 - extent[1] / extent[0]
    return 1 - slender * (v.grasps.T_base_tcp[:, :3, 1] @ axes[0]) ** 2


def balance(v: View) -> Array:
    """The weight turns the object about the closing axis: only the lever square to that axis counts."""
    lever = v.com - v.grasps.T_base_tcp[:, :3, 3]
    lever[:, 2] = 0
    y = v.grasps.T_base_tcp[:, :3, 1]
    arm = np.linalg.norm(lever - np.sum(lever * y, -1, keepdims=True) * y, axis=1)
    return 1 / (1 + (arm / LEVER_M) ** 2)


def upright(v: View) -> Array:
    return 1 - (v.grasps.tilt_rad / (np.pi / 2)) ** 2


def level(v: View) -> Array:
    return 1 - 0.7 * (v.grasps.T_base_tcp[:, 2, 1] / STEEPEST) ** 2


def width_margin(v: View) -> Array:
    """Narrow things leave air for errors on both sides, and their surfaces are better known."""
    return 1 - 0.7 * (v.grasps.width_m / v.gripper.max_width_m) ** 2


def clearance(v: View) -> Array:
    return 0.1 + 0.9 * v.clearance_m / CROWDED_M


def depth(v: View) -> Array:
    return v.grasps.tip_past_contact_m / TIP_PAST_CONTACT_M


def room(v: View) -> Array:
    """For handing over: how much of the part stays free for the person's hand."""
    tcp = v.grasps.T_base_tcp
    x = (v.part.points[None] - tcp[:, None, :3, 3]) @ tcp[:, :3, 0, None]
    return (np.abs(x[..., 0]) > 1.5 * v.gripper.pad_width_m).mean(1)


def free_handle(v: View) -> Array:
    """For a person who is to take the handle: how much of what is not held lies out of the fingers' way."""
    if len(v.rest) == 0:
        return np.ones(len(v.grasps))
    away_m = np.linalg.norm(v.rest[None] - v.grasps.T_base_tcp[:, None, :3, 3], axis=2)
    return np.asarray((away_m > FIST_M).mean(1))


def reachability(v: View) -> Array:
    """Before any inverse kinematics: is the flange well within the arm's reach, not over its base, and does the hand
    point away from the base rather than back to it?"""
    facts = ARMS[v.arm]
    T = v.grasps.T_base_tcp
    flange = T[:, :3, 3] - HAND_M * T[:, :3, 2] - [0, 0, facts.d_m[0]]
    stretched = np.linalg.norm(flange, axis=1) / facts.reach_m
    out_m = np.linalg.norm(flange[:, :2], axis=1)
    far = (1 - stretched) / (1 - AT_EASE)  # 0 at the reach
    near = out_m / abs(facts.d_m[3]) - 1  # within that cylinder about the base's axis no wrist can be
    back = np.maximum(0.0, -np.sum(T[:, :2, 2] * T[:, :2, 3], axis=1) / np.linalg.norm(T[:, :2, 3], axis=1))
    return np.clip(np.minimum(far, near), 0.0, 1.0) * (1 - 0.5 * back)


def learned(v: View) -> Array:
    """The chance of strict success, as simulated outcomes have taught it."""
    return scorer.load()(v)


Term = Callable[[View], Array]
TERMS: list[tuple[Term, float]] = [
    (antipodal, 2.0),
    (coverage, 1.5),
    (purity, 2.0),
    (seen, 1.0),
    (centred, 1.0),
    (square, 1.0),
    (across, 2.0),
    (balance, 2.0),
    (upright, 2.0),
    (level, 1.0),
    (width_margin, 0.5),
    (clearance, 3.0),
    (depth, 1.0),
    (reachability, 0.5),
    (learned, 0.0),  # seen in the trace, without a say: see docs/grasp_scorer.md
]
HANDOVER_TERMS: list[tuple[Term, float]] = [*TERMS, (room, 1.0)]
HANDLE_FREE_TERMS: list[tuple[Term, float]] = [*TERMS, (free_handle, 2.0)]


def score(view: View, terms: list[tuple[Term, float]]) -> tuple[Array, dict[str, Array]]:
    """Scores (G,) and each term's values (G,) by its function's name, all in [0, 1]."""
    values = {term.__name__: np.clip(term(view), 0.0, 1.0) for term, _ in terms}
    weights = np.array([w for _, w in terms])
    logs = np.log(np.maximum(np.stack(list(values.values())), 1e-3))
    return np.exp(weights @ logs / weights.sum()), values


def touch(grasps: Candidates, part: Surface, other: Array, gripper: ParallelGripper) -> Touch:
    """Look at what lies between the pads. other: (N, 3) points of the object's other parts and of obstacles."""
    T, half = grasps.T_base_tcp, grasps.width_m[:, None] / 2
    reach_m = gripper.opening_for_m(grasps.width_m)[:, None] / 2
    tip = gripper.tip_past_tcp_m(grasps.width_m)[:, None]

    def between(points: Array) -> tuple[Array, NDArray[np.bool_]]:
        local = np.einsum("gnk,gkj->gnj", points[None] - T[:, None, :3, 3], T[:, :3, :3])
        x, y, z = local[..., 0], local[..., 1], local[..., 2]
        reach = (np.abs(x) <= gripper.pad_width_m / 2) & (np.abs(y) <= reach_m)
        return local, reach & (z <= tip) & (z >= tip - gripper.pad_length_m)

    def purity(held: NDArray[np.bool_]) -> Array:
        if len(other) == 0:
            return np.ones(len(T))
        local, strange = between(other)
        met_first = (strange & (np.abs(local[..., 1]) > half - MET_FIRST_M)).sum(1)
        share = held.sum(1) / np.maximum(held.sum(1) + strange.sum(1), 1)
        return np.where(met_first >= STRANGERS, 0.0, share)

    local, held = between(part.points)
    near_pad = held & (half - np.abs(local[..., 1]) < PATCH_DEPTH_M)
    any_near = near_pad.any(1)

    def extent(axis: int) -> tuple[Array, Array]:
        low = np.where(any_near, np.where(near_pad, local[..., axis], np.inf).min(1), 0.0)
        high = np.where(any_near, np.where(near_pad, local[..., axis], -np.inf).max(1), 0.0)
        return high - low, (high + low) / 2

    (extent_x, middle_x), (extent_z, _) = extent(0), extent(2)
    facing = T[:, :3, 1] @ part.normals.T * np.sign(local[..., 1])  # (G, N); tops and undersides do not face the pads
    side = np.where(near_pad & (facing > FACING), np.sign(local[..., 1]), 0.0)
    mean_normal = side @ part.normals
    nx, ny, nz = (np.einsum("gk,gk->g", mean_normal, T[:, :3, k]) for k in range(3))
    skew = np.arctan2(np.hypot(nx, 0.5 * nz), np.maximum(ny, 1e-9))  # seen edges tip the normals along z: half counts
    observed = (near_pad & part.observed).sum(1) / np.maximum(near_pad.sum(1), 1)
    return Touch(extent_x, extent_z, middle_x, skew, purity(held), observed)


def trusted(view: View) -> NDArray[np.bool_]:
    """(G,) True where small errors of the surface would not matter: some air around the hand, contacts well within the
    friction cone, nothing else met first."""
    sure = np.cos(np.arctan(SURE_FRICTION))
    return (view.clearance_m > SURE_AIR_M) & (view.grasps.quality > sure) & (view.touch.purity > 0)


def diverse(
    T_base_tcp: Array, scores: Array, limit: int, distance_m: float = 0.01, angle_rad: float = np.radians(20)
) -> list[int]:
    """Non-maximum suppression: indices, best first, such that no kept pose lies within both `distance_m` (of the tcps)
    and `angle_rad` (of the rotation between them) of a better one.

    The rule is that of graspnetAPI's `GraspGroup.nms`, whose defaults are 3 cm and 30 degrees; here a hand that is
    turned half about its approach is the same grasp, and the distances leave plans something to choose from.
    """
    kept: list[int] = []
    half_turn = np.diag([-1.0, -1.0, 1.0])
    R, p = T_base_tcp[:, :3, :3], T_base_tcp[:, :3, 3]
    for i in np.argsort(-scores, kind="stable"):
        if kept:
            near = np.linalg.norm(p[kept] - p[i], axis=1) < distance_m
            trace = np.einsum("gij,ij->g", R[kept], R[i])
            turned = np.einsum("gij,ij->g", R[kept], R[i] @ half_turn)
            if (near & (np.maximum(trace, turned) > 1 + 2 * np.cos(angle_rad))).any():
                continue
        kept.append(int(i))
        if len(kept) == limit:
            break
    return kept
