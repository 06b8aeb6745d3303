"""Was the object delivered? From true poses and contacts; the checks of the grasp itself are in `judge`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.types import Delivery, Destination
from affordagent.robot.sim.contacts import PhaseLog
from affordagent.robot.sim.placement import footprint, gap
from affordagent.robot.sim.scene import Scene

ON_TABLE_M = 0.006  # the lowest point of what stands on the table is below this
BESIDE_M = 0.17  # further apart nothing is "next to"
DROPPED_M = 0.05  # lower than this after it was let go: it fell
AT_REST_M = 0.005  # moved while it should rest
AWAY_M = 0.05  # what is put somewhere else has moved so far
BACK_M = 0.03  # what is put back has moved no further
PRESENTED_M = 0.02  # of the tcp from where the plan holds it out
STILL_HELD = 0.98  # of the samples while it is held out
HANDLE_FREE = 0.4  # of the part that the person is to take: some 5 cm of a handle of 12
HAND_M = (0.03, 0.075)  # the hand covers what is nearer to the tcp than this, across its pads and along its closing
KEPT_M = 0.1  # what a person has taken is at least this far above the table

CODES = {  # check -> code of its failure, in the order of precedence, after those of the grasp
    "presented": "execution.drop",
    "taken": "execution.drop",
    "handle_free": "grounding.wrong_part",
    "not_dropped": "execution.drop",
    "in_place": "execution.missed_place",
    "at_rest": "execution.missed_place",
}


@dataclass(frozen=True)
class TrueEnd:
    """What was wanted, by the truth. aimed_at: the object. there: the thing it was to be put into, onto or beside; None
    = the table. handle: the part that was to be left to the person, None = any hold will do."""

    delivery: Delivery
    aimed_at: str | None
    destination: Destination | None
    there: str | None
    handle: str | None


def judge_delivery(
    log: dict[str, PhaseLog], before: dict[str, Array], scene: Scene, end: TrueEnd, measured: dict[str, float]
) -> dict[str, bool]:
    """Checks by name; fills `measured`. log, before: as of `judge.judge_motion`."""
    place = end.delivery.kind == "place"
    names = ("not_dropped", "in_place", "at_rest") if place else ("presented", "taken")
    if end.aimed_at is None or "rest" not in log:
        return dict.fromkeys(names, False)
    return _placed(log, before, scene, end, measured) if place else _handed_over(log, scene, end, measured)


def _placed(
    log: dict[str, PhaseLog], before: dict[str, Array], scene: Scene, end: TrueEnd, measured: dict[str, float]
) -> dict[str, bool]:
    name = str(end.aimed_at)
    lowered, left, now = (log[phase].T_base_body[name] for phase in ("lower", "back_off", "rest"))
    points = _points(scene, name)
    low_m = float(transform_points(now, points)[:, 2].min())
    measured["fell_m"] = float(transform_points(lowered, points)[:, 2].min()) - low_m
    measured["moved_at_rest_m"] = float(np.linalg.norm(now[:3, 3] - left[:3, 3]))
    measured["moved_m"] = float(np.linalg.norm(now[:2, 3] - before[name][:2, 3]))
    measured["lowest_m"] = low_m
    relation = None if end.destination is None else end.destination.relation
    if relation == "back":
        in_place = low_m < ON_TABLE_M and measured["moved_m"] < BACK_M
    elif relation is None or end.there is None:
        in_place = low_m < ON_TABLE_M and measured["moved_m"] > AWAY_M
    elif relation == "beside":
        there = footprint(scene.object(end.there).obj, log["rest"].T_base_body[end.there])
        measured["gap_m"] = gap(footprint(scene.object(name).obj, now), there)
        in_place = low_m < ON_TABLE_M and 0 < measured["gap_m"] < BESIDE_M
    else:
        in_place = _within(
            scene, end.there, log["rest"].T_base_body[end.there], transform_points(now, points), relation
        )
    return {
        "not_dropped": measured["fell_m"] < DROPPED_M,
        "in_place": in_place,
        "at_rest": measured["moved_at_rest_m"] < AT_REST_M,
    }


def _within(scene: Scene, there: str, T_base_there: Array, points: Array, relation: str) -> bool:
    """Is the middle of the points (N, 3) within the outline of a thing, and their lowest one in (below its rim), or on
    it (off the table)?"""
    low, high = scene.object(there).obj.bounds
    local = transform_points(invert(T_base_there), points)
    middle = (local.min(0) + local.max(0)) / 2
    above = bool(((middle > low) & (middle < high))[:2].all())
    lowest = float(local[:, 2].min())
    return above and (low[2] <= lowest < high[2] if relation == "in" else lowest > low[2] + ON_TABLE_M / 2)


def _handed_over(log: dict[str, PhaseLog], scene: Scene, end: TrueEnd, measured: dict[str, float]) -> dict[str, bool]:
    name = str(end.aimed_at)
    offers = [phase for phase in log if phase.startswith("offer")]
    offered, now = log[offers[-1]], log["rest"]
    off = offered.T_base_body["tcp"][:3, 3] - end.delivery.T_base_tcp[:3, 3]
    measured["presented_off_m"] = float(np.linalg.norm(off))
    held = offered.samples_with_pads / max(offered.samples, 1)
    measured["height_kept_m"] = float(transform_points(now.T_base_body[name], _points(scene, name))[:, 2].min())
    checks = {
        "presented": measured["presented_off_m"] < PRESENTED_M and held >= STILL_HELD,
        "taken": measured["height_kept_m"] > KEPT_M and now.samples_with_pads == 0,
    }
    if end.handle is not None:
        measured["handle_free_share"] = _free_share(offered, scene, name, end.handle)
        checks["handle_free"] = measured["handle_free_share"] >= HANDLE_FREE
    return checks


def _free_share(offered: PhaseLog, scene: Scene, name: str, part: str) -> float:
    """Share of a part's surface, by its vertices, that the hand leaves to the person."""
    meshes = [visual.mesh for visual in scene.object(name).obj.visuals if visual.part == part]
    points = np.concatenate([mesh.triangles_center for mesh in meshes])
    areas = np.concatenate([mesh.area_faces for mesh in meshes])
    T_tcp_object = invert(offered.T_base_body["tcp"]) @ offered.T_base_body[name]
    away = (np.abs(transform_points(T_tcp_object, points)[:, :2]) > HAND_M).any(1)
    return float(areas[away].sum() / areas.sum())


def _points(scene: Scene, name: str) -> Array:
    return np.concatenate([visual.mesh.vertices for visual in scene.object(name).obj.visuals])
