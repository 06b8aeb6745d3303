"""Where what is held may go: into, onto or beside a thing, to a free place on the table, or to a person's hand.

A goal is a ranked list of rigid motions of the object, whatever grasp holds it: shifts, and turns about the vertical.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, rigid
from affordagent.core.types import DeliveryGoal, Destination, PartCloud
from affordagent.robot.hand_over import HandOver
from affordagent.tools.depth_projection import normals_towards_camera
from affordagent.tools.grasping.completion import complete
from affordagent.tools.landing import CELL_M, Landing, inside_of, opening_of, table_of, top_of

TABLE = "table"  # the words of a destination that is no thing
RELEASE_M = 0.008  # let go with the lowest point this far above what it will stand on
MARGIN_M = 0.008  # round the footprint: it was seen from one side
APART_M = 0.02  # of a thing on the table from everything else
BESIDE_M = 0.15  # further apart nobody says "next to"
ELSEWHERE_M = 0.08  # the middle of a thing that is put somewhere else moves at least this far
TURNS_RAD = np.deg2rad(np.arange(-165, 181, 15.0))
MOST_MOVES = 10
CORE_M = 0.025  # half the side of what must be carried right under the middle of a thing that overhangs
REACH_M = (0.28, 0.75)  # of the middle of what is put on the table, from the base's axis
DISTANCE_COST = 0.3  # room that is worth a metre nearer
TURN_COST_M = 0.01  # room that a quarter turn is worth
ENOUGH_ROOM_M = 0.03
LONG_PART_M = 0.09  # a part so long has room for two hands
POINTS_TO_M = 0.015
PRESENTED_TURNS_RAD = np.deg2rad([0.0, 20, -20, 40, -40, 60, -60, 90, -90])
FREE_TURNS_RAD = np.deg2rad([0.0, 30, -30, 60, -60, 90, -90, 120, -120, 180])


def place_goal(cloud: PartCloud, destination: Destination, there: Array, bare_table: Array) -> DeliveryGoal:
    """Where to put the object, best first.

    destination: its relation to the thing seen as `there`, (N, 3) base frame; (0, 3) = anywhere free on the table.
    bare_table: (K, 3) where the table itself was seen.

    Raises:
        StageFailure: ("plan", "scene.no_room"): it does not fit there, or nothing is free.
    """
    body = _completed(cloud)
    on_table = not len(there) or destination.relation == "beside"
    landing = _table(cloud, there, bare_table) if on_table else _landing(cloud, destination, there)
    middle = (body[:, :2].min(0) + body[:, :2].max(0)) / 2
    outlines = [_hull(body[:, :2] - middle)]
    worth = np.zeros(landing.free.shape)
    if on_table and len(there):
        half_m = float(np.linalg.norm(outlines[0], axis=1).max())
        worth = _worth(landing, there[:, :2], 0.0, BESIDE_M + half_m)
    elif on_table:
        worth = _worth(landing, middle[None], ELSEWHERE_M, np.inf)
        worth[~_on_side(landing, cloud, bare_table, destination.attributes.get("position"))] = -np.inf
    most_room_m = ENOUGH_ROOM_M if on_table else np.inf
    if destination.relation == "on" and len(there):  # what is larger than its support may overhang it
        outlines.append(CORE_M * np.array([[1.0, 1], [1, -1], [-1, -1], [-1, 1]]))
    for outline in outlines:
        spots = sorted(_spots(landing, outline, worth, most_room_m), key=lambda spot: -spot[0])
        if spots:
            break
    if not spots:
        raise _no_room(destination, _hull(body[:, :2] - middle), landing)
    up_m = landing.z_m + RELEASE_M - cloud.table_z_m
    moves = [_move(middle, turn, xy, up_m) for _, turn, xy in spots[:MOST_MOVES]]
    return DeliveryGoal("place", np.stack(moves), there if not on_table else np.empty((0, 3)))


def put_back_goal() -> DeliveryGoal:
    """Where it was taken from, let go a little above the table."""
    return DeliveryGoal("place", rigid(np.eye(3), [0.0, 0.0, RELEASE_M])[None], np.empty((0, 3)))


def hand_over_goal(cloud: PartCloud, settings: HandOver, part_kept_free: bool) -> DeliveryGoal:
    """How to hold the object out to the person: its middle at the place of the settings, its free end to the person.

    part_kept_free: the cloud's part is the object without the part that the person is to take. Otherwise a long part
    (a hammer's handle) points to the person, who takes its end; a short one (a mug's) away from them.
    """
    body = _completed(cloud)
    middle = (body.min(0) + body.max(0)) / 2
    held = cloud.part[:, :2].mean(0) - middle[:2]
    length_m = float(np.linalg.norm(np.ptp(cloud.part, axis=0)))
    to_person = held if not part_kept_free and length_m >= LONG_PART_M else -held
    turns = FREE_TURNS_RAD
    if np.linalg.norm(held) > POINTS_TO_M:
        towards = settings.towards
        turns = PRESENTED_TURNS_RAD + np.arctan2(towards[1], towards[0]) - np.arctan2(to_person[1], to_person[0])
    position = np.array(settings.position_m)
    moves = [_move(middle[:2], float(turn), position[:2], position[2] - middle[2]) for turn in turns]
    return DeliveryGoal("hand_over", np.stack(moves), np.empty((0, 3)))


def _completed(cloud: PartCloud) -> Array:
    """(N, 3) the whole object, its far side guessed."""
    normals = normals_towards_camera(cloud.object - cloud.camera_position)
    surface = complete(cloud.object, normals, cloud.camera_position, cloud.table_z_m, cloud.obstacles)
    return np.concatenate([cloud.object, surface.points])


def _landing(cloud: PartCloud, destination: Destination, there: Array) -> Landing:
    opening = opening_of(there, cloud.table_z_m)
    if opening is not None:
        return inside_of(opening, np.concatenate([there, cloud.obstacles]))
    if destination.relation == "on":
        return top_of(there)
    raise StageFailure(
        "plan",
        "scene.no_room",
        f"I see no opening in the {destination.words}: turn it with its opening up, or say on or next to",
    )


def _table(cloud: PartCloud, there: Array, bare_table: Array) -> Landing:
    taken = np.concatenate([cloud.obstacles[:, :2], cloud.object[:, :2], there[:, :2]])
    return table_of(bare_table[:, :2], taken, APART_M, cloud.table_z_m)


def _spots(
    landing: Landing, outline: Array, worth: NDArray[np.float64], most_room_m: float
) -> Iterator[tuple[float, float, Array]]:
    """(worth, turn, (2,) where the middle goes): the best cell for each turn. worth: (X, Y) metres, of a cell besides
    its room, which counts up to `most_room_m`."""
    grown = outline * (1 + MARGIN_M / np.maximum(np.linalg.norm(outline, axis=1, keepdims=True), 1e-6))
    for turn in TURNS_RAD:
        c, s = np.cos(turn), np.sin(turn)
        room = landing.room_for(grown @ np.array([[c, s], [-s, c]]))
        value = np.where(room > 0, np.minimum(room, most_room_m) + worth, -np.inf)
        best = np.unravel_index(int(np.argmax(value)), value.shape)
        if np.isfinite(value[best]):
            yield float(value[best]) - TURN_COST_M * abs(turn) / (np.pi / 2), float(turn), landing.centres[best]


def _worth(landing: Landing, near: Array, least_m: float, most_m: float) -> NDArray[np.float64]:
    """(X, Y) the nearer to the points (N, 2) the better; -inf out of reach or not between the two distances."""
    centres = landing.centres
    distance = landing.distance_m(near)
    radius = np.linalg.norm(centres, axis=-1)
    allowed = (distance >= least_m) & (distance <= most_m) & (radius > REACH_M[0]) & (radius < REACH_M[1])
    return np.where(allowed, -DISTANCE_COST * distance, -np.inf)


def _on_side(landing: Landing, cloud: PartCloud, bare_table: Array, position: str | None) -> NDArray[np.bool_]:
    """(X, Y) the half of the table that "left" or "right" is in the picture; all of it for other words."""
    if position not in ("left", "right"):
        return np.ones(landing.free.shape, bool)
    middle = bare_table[:, :2].mean(0)
    away = middle - cloud.camera_position[:2]
    right = np.array([away[1], -away[0]])
    return (landing.centres - middle) @ (right if position == "right" else -right) > 0


def _hull(xy: Array) -> Array:
    return cv2.convexHull(xy.astype(np.float32))[:, 0].astype(float)


def _move(middle: Array, turn_rad: float, to: Array, up_m: float) -> Array:
    """(4, 4): turn about the vertical through `middle` (2,), then shift it to `to` (2,) and up."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return rigid(R, np.append(to, up_m) - R @ np.append(middle, 0.0))


def _no_room(destination: Destination, outline: Array, landing: Landing) -> StageFailure:
    needs_m = _sides_m(outline) + 2 * MARGIN_M
    message = f"the object needs {_cm(needs_m)} cm, its margin counted, and no such place is free {destination.place}: "
    evidence = {"needs_m": np.round(needs_m, 3).tolist(), "free_m2": round(float(landing.free.sum()) * CELL_M**2, 4)}
    if not landing.free.any():
        message += "nothing of it is"
    else:
        _, labels, facts, _ = cv2.connectedComponentsWithStats(landing.free.astype(np.uint8))
        largest = labels == 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA]))
        free_m = _sides_m(landing.centres[largest]) + CELL_M
        message += f"its largest free part lies within {_cm(free_m)} cm"
        evidence["largest_within_m"] = np.round(free_m, 3).tolist()
    return StageFailure("plan", "scene.no_room", f"{message}. Make room, or name another place", **evidence)


def _sides_m(xy: Array) -> Array:
    """(2,) longer and shorter side of the rectangle around points (N, 2)."""
    (_, sides, _) = cv2.minAreaRect(xy.astype(np.float32))
    return np.array(sorted(sides, reverse=True))


def _cm(sides_m: Array) -> str:
    return " x ".join(f"{100 * side:.0f}" for side in sides_m)
