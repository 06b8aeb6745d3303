"""From the part's cloud to ranked grasps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import GraspSet, PartCloud, RgbdFrame
from affordagent.robot.arms import ArmName
from affordagent.tools.depth_projection import voxel_downsample
from affordagent.tools.grasping import ranking
from affordagent.tools.grasping.antipodal import FRICTION, MIN_TIP_PAST_CONTACT_M, Antipodal, Candidates, too_wide
from affordagent.tools.grasping.backends import Backend
from affordagent.tools.grasping.closing import closed
from affordagent.tools.grasping.collision import SKIN_M, HandCollision, drop_to_table
from affordagent.tools.grasping.completion import Surface, complete, imagined, narrowest_m
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85, ParallelGripper

MIN_POINTS = 20
ENOUGH = 10
SHALLOWER_M = (0.005, 0.010)
REST_WEIGHT = 2.0  # of a piece of surface that is not of the part, against one that is


def propose(
    cloud: PartCloud,
    rng_seed: int = 0,
    gripper: ParallelGripper = ROBOTIQ_2F85,
    handover: bool = False,
    limit: int = 60,
    backend: Backend | None = None,
    frame: RgbdFrame | None = None,
    handle_free: bool = False,
    arm: ArmName = "UR5e",
) -> GraspSet:
    """Collision-free grasps on the part, best first, at most `limit`, none nearly equal to a better one.

    backend: who proposes the hand poses; None = `Antipodal`. What it proposes is filtered, ranked and thinned here in
    the same way, whoever it is. frame: the whole scene, for backends that look at it. A hand turned half about its
    approach grasps the same: only one of the two is returned. Grasps that small errors would spoil are left out where
    `ENOUGH` others are there. handover: the person's hand needs room on the part; handle_free: it takes what is not
    held. arm: the one that is to reach them.

    Raises:
        StageFailure: "grasp.none" (no opposing surfaces, or hardly any points), "grasp.too_wide",
            "grasp.collides_surface" (the table is in the way of all), "grasp.collides_scene" (other things are).
    """
    view = replace(consider(cloud, rng_seed, gripper, backend, frame), arm=arm)
    grasps = view.grasps
    by_wish = ranking.HANDOVER_TERMS if handover else ranking.TERMS
    scores, terms = ranking.score(view, ranking.HANDLE_FREE_TERMS if handle_free else by_wish)
    best = ranking.diverse(grasps.T_base_tcp, scores, limit)
    trusted = ranking.trusted(view)
    sure = [i for i in best if trusted[i]]
    best = sure if len(sure) >= ENOUGH else best
    name = Antipodal.name if backend is None else backend.name
    return GraspSet(grasps.T_base_tcp, grasps.width_m, scores, terms, gripper.name, name).take(best)


def consider(
    cloud: PartCloud,
    rng_seed: int = 0,
    gripper: ParallelGripper = ROBOTIQ_2F85,
    backend: Backend | None = None,
    frame: RgbdFrame | None = None,
) -> ranking.View:
    """All collision-free grasps of a backend with what is known of them, before they are ranked; see `propose`."""
    if len(cloud.part) < MIN_POINTS:
        raise StageFailure(
            "propose",
            "grasp.none",
            f"the part has {len(cloud.part)} points, at least {MIN_POINTS} are needed: look from another side",
            points=len(cloud.part),
        )
    backend = Antipodal() if backend is None else backend
    part = completed(cloud)
    candidates = backend.candidates(frame, cloud, part, gripper, np.random.default_rng(rng_seed))
    if len(candidates) == 0:
        raise StageFailure("propose", "grasp.none", f"{backend.name} proposes no grasp on the part: name another part")
    candidates = _closed(_at_depths(candidates), part, gripper)
    rest = _rest_of_object(cloud)
    unseen = imagined(rest, cloud.camera_position, cloud.table_z_m, np.concatenate([cloud.object, cloud.obstacles]))
    solid = drop_to_table(np.concatenate([rest, unseen, voxel_downsample(cloud.obstacles, 0.005)]), cloud.table_z_m)
    collision = HandCollision(solid, np.concatenate([cloud.part, part.points]), cloud.table_z_m, gripper)
    candidates, clearance_m = _free(candidates, collision, gripper, part)
    return view_of(candidates, clearance_m, cloud, part, gripper)


def _closed(candidates: Candidates, part: Surface, gripper: ParallelGripper) -> Candidates:
    """The candidates that hold when closed; all of them as they came where none is seen to, as on things so thin and
    flat that hardly a point lies on their sides."""
    found = closed(candidates, part, gripper)
    holding = found.quality >= np.cos(np.arctan(FRICTION))
    return found.take(holding) if holding.any() else candidates


def _at_depths(candidates: Candidates) -> Candidates:
    """The candidates, and shallower ones where there is room for them."""
    both = candidates
    for by_m in SHALLOWER_M:
        both = both.join(
            candidates.take(candidates.tip_past_contact_m > by_m + MIN_TIP_PAST_CONTACT_M).drawn_back(by_m)
        )
    return both


def completed(cloud: PartCloud) -> Surface:
    """The closed surface of the cloud's part."""
    others = np.concatenate([cloud.object, cloud.obstacles])
    return complete(cloud.part, cloud.part_normals, cloud.camera_position, cloud.table_z_m, others)


def view_of(
    candidates: Candidates, clearance_m: Array, cloud: PartCloud, part: Surface, gripper: ParallelGripper = ROBOTIQ_2F85
) -> ranking.View:
    """What the terms look at. clearance_m: (G,) air around the hands. part: see `completed`."""
    rest = _rest_of_object(cloud)
    touch, com = ranking.touch(candidates, part, rest, gripper), _centre_of_mass(cloud, rest)
    return ranking.View(candidates, touch, part, com, clearance_m, gripper, rest, cloud.table_z_m)


def _free(
    candidates: Candidates, collision: HandCollision, gripper: ParallelGripper, part: Surface
) -> tuple[Candidates, Array]:
    """The candidates whose open hand touches neither table nor scene, and the air around each (G,), metres. Those that
    hit something also get a chance with a shallower grip."""

    def look(c: Candidates) -> tuple[NDArray[np.bool_], Array]:
        opening_m = gripper.opening_for_m(c.width_m)
        clearance_m = collision.clearance_m(c.T_base_tcp, opening_m, ranking.CROWDED_M)
        return collision.hits_table(c.T_base_tcp, opening_m), clearance_m

    on_table, clearance_m = look(candidates)
    in_scene = clearance_m < -SKIN_M
    free = ~on_table & ~in_scene
    if not free.any():
        if narrowest_m(part) > gripper.max_width_m:  # what would fit were flaws of the guessed surface
            raise too_wide(narrowest_m(part), gripper)
        counts = {"candidates": len(free), "hit_table": int(on_table.sum()), "hit_scene": int(in_scene.sum())}
        surface = counts["hit_table"] >= counts["hit_scene"]
        blocker = "the table" if surface else "the object itself or its neighbours"
        raise StageFailure(
            "propose",
            "grasp.collides_surface" if surface else "grasp.collides_scene",
            f"all {len(free)} grasps are blocked, mostly by {blocker}: clear the surroundings or name another part",
            **counts,
        )
    return candidates.take(free), clearance_m[free]


def _rest_of_object(cloud: PartCloud, apart_m: float = 0.004) -> Array:
    """The object's points that are not of the part, thinned."""
    thin = voxel_downsample(cloud.object, 0.004)
    if len(thin) == 0:
        return thin
    return thin[cKDTree(cloud.part).query(thin)[0] > apart_m]


def _centre_of_mass(cloud: PartCloud, rest: Array) -> Array:
    """(3,) centre of the object's seen surface; what is not held weighs more: heads are heavier than handles."""
    held, rest = voxel_downsample(cloud.part, 0.006), voxel_downsample(rest, 0.006)
    weight = np.r_[np.ones(len(held)), np.full(len(rest), REST_WEIGHT)]
    return np.average(np.concatenate([held, rest]), axis=0, weights=weight)
