"""From the part's cloud to ranked grasps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import Grasp, PartCloud
from affordagent.tools.depth_projection import voxel_downsample
from affordagent.tools.grasping import ranking
from affordagent.tools.grasping.antipodal import MIN_TIP_PAST_CONTACT_M, Candidates, Contacts, approaches, contact_pairs
from affordagent.tools.grasping.collision import SKIN_M, HandCollision, drop_to_table
from affordagent.tools.grasping.completion import complete
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85, ParallelGripper

MIN_POINTS = 20
SHALLOWER_M = 0.008
REST_WEIGHT = 2.0  # of a piece of surface that is not of the part, against one that is


def propose(
    cloud: PartCloud,
    rng_seed: int = 0,
    gripper: ParallelGripper = ROBOTIQ_2F85,
    handover: bool = False,
    limit: int = 60,
) -> list[Grasp]:
    """Collision-free antipodal grasps on the part, best first, at most `limit`, none nearly equal to a better one.

    A hand turned half about its approach grasps the same: only one of the two is returned.

    Raises:
        StageFailure: "grasp.none" (no opposing surfaces, or hardly any points), "grasp.too_wide",
            "grasp.collides_surface" (the table is in the way of all), "grasp.collides_scene" (other things are).
    """
    if len(cloud.part) < MIN_POINTS:
        raise StageFailure(
            "propose",
            "grasp.none",
            f"the part has {len(cloud.part)} points, at least {MIN_POINTS} are needed: look from another side",
            points=len(cloud.part),
        )
    others = np.concatenate([cloud.object, cloud.obstacles])
    part = complete(cloud.part, cloud.part_normals, cloud.camera_position, cloud.table_z_m, others)
    contacts = contact_pairs(part, np.random.default_rng(rng_seed))
    candidates = _poses(contacts, cloud.table_z_m, gripper)
    rest = _rest_of_object(cloud)
    solid = drop_to_table(np.concatenate([rest, voxel_downsample(cloud.obstacles, 0.005)]), cloud.table_z_m)
    collision = HandCollision(solid, np.concatenate([cloud.part, part.points]), cloud.table_z_m, gripper)
    candidates, clearance_m = _free(candidates, collision, gripper, float(np.median(contacts.width_m)))
    view = ranking.View(
        candidates,
        ranking.touch(candidates, part, rest, gripper),
        part,
        _centre_of_mass(cloud, rest),
        clearance_m,
        gripper,
    )
    scores, terms = ranking.score(view, ranking.HANDOVER_TERMS if handover else ranking.TERMS)
    return [
        Grasp(
            candidates.T_base_tcp[i],
            float(candidates.width_m[i]),
            float(scores[i]),
            {name: float(values[i]) for name, values in terms.items()},
        )
        for i in ranking.diverse(candidates.T_base_tcp, scores, limit)
    ]


def _poses(contacts: Contacts, table_z_m: float, gripper: ParallelGripper) -> Candidates:
    if len(contacts.width_m) == 0:
        raise StageFailure(
            "propose",
            "grasp.none",
            "no two opposing surfaces were found on the part: look from another side or name another part",
        )
    fits = contacts.width_m <= gripper.max_width_m
    if not fits.any():
        raise _too_wide(float(contacts.width_m.min()), gripper)
    candidates = approaches(contacts.take(fits), gripper, table_z_m)
    if len(candidates) == 0:
        raise StageFailure(
            "propose",
            "grasp.collides_surface",
            f"none of {int(fits.sum())} contact pairs can be reached with the tips "
            f"{gripper.table_clearance_m * 1e3:.1f} mm off the table: the part lies too flat",
            contact_pairs=int(fits.sum()),
        )
    return candidates


def _too_wide(width_m: float, gripper: ParallelGripper) -> StageFailure:
    return StageFailure(
        "propose",
        "grasp.too_wide",
        f"the part is {width_m * 1e3:.0f} mm wide, the {gripper.name} grasps up to {gripper.max_width_m * 1e3:.0f} mm: "
        "name a thinner part",
        width_m=round(width_m, 4),
        max_width_m=gripper.max_width_m,
    )


def _free(
    candidates: Candidates, collision: HandCollision, gripper: ParallelGripper, typical_width_m: float
) -> tuple[Candidates, Array]:
    """The candidates whose open hand touches neither table nor scene, and the air around each (G,), metres. Those that
    hit something also get a chance with a shallower grip."""

    def look(c: Candidates) -> tuple[NDArray[np.bool_], Array]:
        opening_m = gripper.opening_for_m(c.width_m)
        clearance_m = collision.clearance_m(c.T_base_tcp, opening_m, ranking.CROWDED_M)
        return collision.hits_table(c.T_base_tcp, opening_m), clearance_m

    on_table, clearance_m = look(candidates)
    blocked = (clearance_m < -SKIN_M) & (candidates.tip_past_contact_m > SHALLOWER_M + MIN_TIP_PAST_CONTACT_M)
    shallow = candidates.take(blocked).drawn_back(SHALLOWER_M)
    candidates = candidates.join(shallow)
    on_table, clearance_m = (np.concatenate(pair) for pair in zip((on_table, clearance_m), look(shallow), strict=True))
    in_scene = clearance_m < -SKIN_M
    free = ~on_table & ~in_scene
    if not free.any():
        if typical_width_m > gripper.max_width_m:  # the few pairs that would fit were flaws of the guessed surface
            raise _too_wide(typical_width_m, gripper)
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
