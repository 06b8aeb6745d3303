"""Scenes of manipulation tasks: the thing to act on, where it is to go, others of its kind in other colours, and
household things that are not meant. Everything is drawn from (task, seed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array, invert, rigid
from affordagent.robot.sim.objects import library
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.shapes import rot_z
from affordagent.robot.sim.objects.task_things import COLOURS, ball_on_stand, block, button, jar, lid, target
from affordagent.robot.sim.placement import (
    SPAWN_HEIGHT_M,
    VIEW_MARGIN_PX,
    Footprint,
    footprint,
    gap,
    hull_gap,
    image_footprint,
)
from affordagent.robot.sim.scene import TEST_SEEDS, CameraPose, PlacedObject, Scene, arrange, sample_appearance

SMALL = ("banana", "bottle", "bowl", "can", "mug", "screwdriver", "tape measure", "utensil")  # not meant
BLOCK_AREA_M = ((0.34, 0.58), (-0.26, 0.26))  # x, y of the middle of the block, and of its target
PUSH_M = (0.14, 0.26)  # from the block to its target
HAND_ROOM_M = 0.06  # of other things round the way of the block, and of the hand behind it
BEHIND_M = 0.09  # of the hand, behind the block's middle
APART_M = 0.05  # buttons, or balls
TRIES = 300


@dataclass(frozen=True)
class TaskScene:
    """thing: name of the object to act on; colour: what tells it from others, None = nothing does. goal: name of what
    it is to be brought to, and its colour."""

    scene: Scene
    thing: str
    colour: str | None
    goal: str | None = None
    goal_colour: str | None = None


def sample_task_scene(task: str, seed: int) -> TaskScene:
    """The scene of a task: "reach", "press", "slide", "pick" or "close"; the same arguments always give the same scene.

    Raises:
        AffordAgentError: no such task, or no arrangement fits.
    """
    if task not in _SCENES:
        raise AffordAgentError(f"no task scene is called {task!r}; there are: {', '.join(_SCENES)}")
    rng = np.random.default_rng([seed, 100 + list(_SCENES).index(task)])
    return _SCENES[task](rng, seed)


def _reach(rng: np.random.Generator, seed: int) -> TaskScene:
    return _one_of_three("reach", ball_on_stand, rng, seed)


def _press(rng: np.random.Generator, seed: int) -> TaskScene:
    return _one_of_three("press", button, rng, seed)


def _one_of_three(
    task: str, make: Callable[[np.random.Generator, str], HouseholdObject], rng: np.random.Generator, seed: int
) -> TaskScene:
    colours = [str(c) for c in rng.permutation(COLOURS)[:3]]
    objects = [make(rng, c) for c in colours] + _others(rng, 1)
    for _ in range(TRIES):
        scene = arrange(objects, rng, task, seed)
        there = [footprint(o.obj, o.T_base_object) for o in scene.objects]
        if min(gap(a, b) for a, b in combinations(there, 2)) >= APART_M:
            return TaskScene(scene, scene.objects[0].name, colours[0])
    raise AffordAgentError(
        f"no arrangement of the {task} scene with {APART_M} m between all things after {TRIES} tries"
    )


def _pick(rng: np.random.Generator, seed: int) -> TaskScene:
    """Two cups of different colours."""
    cups = [_instance("mug", rng)]
    while len(cups) < 2 or cups[0].colour == cups[1].colour:
        cups = [cups[0], _instance("mug", rng)]
    scene = arrange(cups + _others(rng, 2, without=("mug",)), rng, "pick", seed)
    return TaskScene(scene, scene.objects[0].name, cups[0].colour)


def _close(rng: np.random.Generator, seed: int) -> TaskScene:
    """Two jars, and one lid that fits the one that is meant."""
    colours = [str(c) for c in rng.permutation(COLOURS)[:2]]
    jars = [jar(rng, c) for c in colours]
    scene = arrange([lid(rng, jars[0].parameters["radius_m"]), *jars], rng, "close", seed)
    return TaskScene(scene, scene.objects[0].name, None, scene.objects[1].name, colours[0])


def _slide(rng: np.random.Generator, seed: int) -> TaskScene:
    """A block, a target 14 to 26 cm from it in any direction, and two household things beside the way."""
    colours = [str(c) for c in rng.permutation(COLOURS)[:2]]
    moved, there = block(rng, colours[0]), target(rng, colours[1])
    camera = CameraPose()
    for _ in range(TRIES):
        T_block, T_target = (_anywhere(rng) for _ in range(2))
        apart_m = float(np.linalg.norm(T_target[:2, 3] - T_block[:2, 3]))
        if PUSH_M[0] <= apart_m <= PUSH_M[1] and all(
            _in_view(o, T, camera) for o, T in ((moved, T_block), (there, T_target))
        ):
            break
    else:
        raise AffordAgentError(f"no place for a block and its target after {TRIES} tries: take another seed")
    placed = [PlacedObject("block_0", "block", moved, T_block), PlacedObject("target_1", "target", there, T_target)]
    way = _way(moved, there, T_block, T_target)
    taken: list[Footprint] = []
    for i, other in enumerate(_others(rng, 2)):
        T = _beside(other, way, taken, camera, rng)
        taken.append(footprint(other, T))
        placed.append(PlacedObject(f"{other.category.replace(' ', '_')}_{i + 2}", other.category, other, T))
    scene = Scene("slide", seed, tuple(placed), sample_appearance(rng), camera)
    return TaskScene(scene, "block_0", colours[0], "target_1", colours[1])


def _way(moved: HouseholdObject, there: HouseholdObject, T_block: Array, T_target: Array) -> Array:
    """(N, 2) convex outline of all that the block, its target and the hand behind it cover."""
    start, end = T_block[:2, 3], T_target[:2, 3]
    behind = start - BEHIND_M * (end - start) / np.linalg.norm(end - start)
    corners = np.concatenate([*footprint(moved, T_block).hulls, *footprint(there, T_target).hulls, behind[None]])
    return cv2.convexHull(corners.astype(np.float32))[:, 0].astype(float)


def _beside(
    other: HouseholdObject, way: Array, taken: list[Footprint], camera: CameraPose, rng: np.random.Generator
) -> Array:
    """T_base_object of a thing that is in view and leaves the way and the other things alone."""
    for _ in range(TRIES):
        T = _anywhere(rng, ((0.25, 0.68), (-0.38, 0.38)))
        there = footprint(other, T)
        off_way = min(hull_gap(hull, way) for hull in there.hulls) >= HAND_ROOM_M
        if off_way and _in_view(other, T, camera) and all(gap(there, o) >= 0.02 for o in taken):
            return T
    raise AffordAgentError(f"no place for the {other.category} after {TRIES} tries: take another seed")


def _anywhere(rng: np.random.Generator, area: tuple[tuple[float, float], tuple[float, float]] = BLOCK_AREA_M) -> Array:
    x, y = (rng.uniform(*side) for side in area)
    return rigid(rot_z(float(rng.uniform(0, 2 * np.pi))), [x, y, SPAWN_HEIGHT_M])


def _in_view(obj: HouseholdObject, T_base_object: Array, camera: CameraPose) -> bool:
    pixels = np.concatenate(image_footprint(obj, invert(camera.T_base_camera) @ T_base_object, camera.intrinsics).hulls)
    size = np.array([camera.width, camera.height])
    return bool((pixels >= VIEW_MARGIN_PX).all() and (pixels <= size - VIEW_MARGIN_PX).all())


def _others(rng: np.random.Generator, count: int, without: tuple[str, ...] = ()) -> list[HouseholdObject]:
    names = rng.choice([name for name in SMALL if name not in without], count, replace=False)
    return [_instance(str(name), rng) for name in names]


def _instance(category: str, rng: np.random.Generator) -> HouseholdObject:
    return library.make(category, int(rng.integers(TEST_SEEDS.start, TEST_SEEDS.stop)))


_SCENES: dict[str, Callable[[np.random.Generator, int], TaskScene]] = {
    "reach": _reach,
    "press": _press,
    "slide": _slide,
    "pick": _pick,
    "close": _close,
}
