"""A free joint path between two postures: the straight one when it is free, else RRT-Connect with shortcuts.

The search looks at coarse steps. What it finds is looked at again in steps of FINE_STEP_M before it counts.

RRT-Connect: Kuffner and LaValle, "RRT-Connect: an efficient approach to single-query path planning", ICRA 2000. Own
code: as good paths as OMPL's in half the time, and each search has a generator and a bound of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.arms import ArmName
from affordagent.tools.motion.sampling import densely

Free = Callable[[Array], bool]
Edge = Callable[[Array, Array], bool]
CHECK_STEP_RAD = 0.025  # of the search: the tcp moves at most some 2 cm between two checks
FINE_STEP_M = 0.004  # of a finished path: nothing moves further between two checks
SPARE_M = 0.0003  # a sphere of 1 cm that passes a point between two of those is nearer to it by no more than this
_GROW_STEP_RAD = 0.4
_ROOM_RAD = 1.6  # how far joints may leave the span between start and goal
_SHORTCUTS = 60


class _Budget:
    """A predicate that may be asked so many times only."""

    def __init__(self, free: Free, checks: int) -> None:
        self._free, self.left = free, checks

    def __call__(self, q: Array) -> bool:
        self.left -= 1
        return self._free(q)


def edge_free(start: Array, end: Array, free: Free) -> bool:
    """Is the straight joint segment free? The start is taken as known; the end and the middle are asked first."""
    count = max(1, int(np.ceil(np.abs(end - start).max() / CHECK_STEP_RAD)))
    return all(free(start + (end - start) * k / count) for k in _middle_first(count))


def _middle_first(count: int) -> list[int]:
    """1..count in an order that finds obstacles early: the end, then ever finer subdivisions."""
    order, step = [count], 1 << max(0, count - 1).bit_length()
    while step > 1:
        order += range(step // 2, count, step)
        step //= 2
    return order


class _Tree:
    def __init__(self, root: Array) -> None:
        self.nodes, self.parents = [root], [-1]

    def extend(self, towards: Array, free: _Budget) -> tuple[int, bool] | None:
        """One step from the nearest node; (new node, arrived) or None when blocked."""
        nearest = int(np.argmin(np.abs(np.array(self.nodes) - towards).max(axis=1)))
        gap = towards - self.nodes[nearest]
        size = float(np.abs(gap).max())
        arrived = size <= _GROW_STEP_RAD
        new = towards if arrived else self.nodes[nearest] + gap * (_GROW_STEP_RAD / size)
        if not edge_free(self.nodes[nearest], new, free):
            return None
        self.nodes.append(new)
        self.parents.append(nearest)
        return len(self.nodes) - 1, arrived

    def path_to(self, node: int) -> list[Array]:
        path = []
        while node >= 0:
            path.append(self.nodes[node])
            node = self.parents[node]
        return path[::-1]


def _search(start: Array, goal: Array, free: _Budget, rng: np.random.Generator) -> list[Array] | None:
    trees = _Tree(start), _Tree(goal)
    lower, upper = np.minimum(start, goal) - _ROOM_RAD, np.maximum(start, goal) + _ROOM_RAD
    lower, upper = np.maximum(lower, -2 * np.pi), np.minimum(upper, 2 * np.pi)
    lower[2], upper[2] = max(lower[2], -np.pi), min(upper[2], np.pi)
    turn = 0
    while free.left > 0:
        grown = trees[turn].extend(rng.uniform(lower, upper), free)
        if grown is not None:
            meeting = trees[turn].nodes[grown[0]]
            other = trees[1 - turn].extend(meeting, free)
            while other is not None and not other[1]:
                other = trees[1 - turn].extend(meeting, free)
            if other is not None:
                nodes = (grown[0], other[0]) if turn == 0 else (other[0], grown[0])
                return trees[0].path_to(nodes[0]) + trees[1].path_to(nodes[1])[::-1][1:]
        turn = 1 - turn
    return None


def _shorten(path: list[Array], edge: Edge, rng: np.random.Generator) -> list[Array]:
    """Replace stretches between random points of the path with straight segments; then go from each waypoint straight
    to the furthest one that can be reached."""
    for _ in range(_SHORTCUTS):
        if len(path) < 3:
            break
        at = np.sort(rng.uniform(0, len(path) - 1, 2))
        (i, j), (u, v) = at.astype(int), at % 1
        if i == j:
            continue
        a, b = path[i] + u * (path[i + 1] - path[i]), path[j] + v * (path[j + 1] - path[j])
        if edge(a, b):
            path = path[: i + 1] + [a, b] + path[j + 1 :]
    kept, at_node = [path[0]], 0
    while at_node < len(path) - 1:
        further = range(len(path) - 1, at_node, -1)
        at_node = next(k for k in further if k == at_node + 1 or edge(path[at_node], path[k]))
        kept.append(path[at_node])
    return kept


def plan_path(
    start: Array, goal: Array, free: Free, rng: np.random.Generator, checks: int, arm: ArmName = "UR5e"
) -> Array | None:
    """(N, 6) waypoints from start to goal, whose straight joint segments are free in steps of FINE_STEP_M; None when
    `checks` states did not suffice. `free` must hold at both ends. arm: whose points are meant by those steps."""
    budget = _Budget(free, checks)

    def coarsely(a: Array, b: Array) -> bool:
        return edge_free(a, b, free)

    def finely(a: Array, b: Array) -> bool:
        return coarsely(a, b) and all(budget(q) for q in densely(np.stack([a, b]), FINE_STEP_M, arm))

    def all_finely(path: list[Array]) -> bool:
        return all(finely(a, b) for a, b in pairwise(path))

    if finely(start, goal):
        return np.stack([start, goal])
    while (path := _search(start, goal, budget, rng)) is not None:
        shortened = _shorten(path, coarsely, rng)
        if all_finely(shortened):
            return np.stack(shortened)
        if all_finely(path):
            return np.stack(_shorten(path, finely, rng))
    return None
