"""Who shares the blame, from what each set of repairs gains. Pure functions.

A coalition is a set of repaired causes; its value is the success of the trial with them, 0 or 1. The Shapley value of a
cause is what its repair gains on average over all orders of repairing (Shapley, "A value for n-person games", 1953);
the values sum to what repairing all gains, and causes whose repair never changes anything get 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from math import factorial

from affordagent.evaluations.statistics import bootstrap_mean

Coalition = frozenset[str]
Value = Callable[[Coalition], float]


def coalitions(players: Sequence[str]) -> list[Coalition]:
    """All 2^k of them, the smaller first, and among equally large ones those with the earlier players first."""
    return [frozenset(c) for size in range(len(players) + 1) for c in combinations(players, size)]


def shapley(players: Sequence[str], value: Value) -> dict[str, float]:
    """Exact Shapley values. Calls `value` for all coalitions; cache it where it is costly."""
    n = len(players)
    weight = [factorial(size) * factorial(n - size - 1) / factorial(n) for size in range(n)]
    return {
        player: sum(
            weight[len(others)] * (value(others | {player}) - value(others))
            for others in coalitions([p for p in players if p != player])
        )
        for player in players
    }


def causal_set(players: Sequence[str], value: Value) -> tuple[str, ...]:
    """The smallest set of repairs that makes the trial succeed, the earliest of them in the order of `players`; empty
    where the trial succeeds as it is, or where no repair helps."""
    for repaired in coalitions(players):
        if value(repaired) >= 1:
            return tuple(player for player in players if player in repaired)
    return ()


def ladder(causes: Sequence[str], value: Value) -> dict[str, float]:
    """Cause -> the value with this and all earlier causes repaired."""
    return {cause: value(frozenset(causes[: i + 1])) for i, cause in enumerate(causes)}


def mean_shares(
    shares: Iterable[Mapping[str, float]], causes: Sequence[str], seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Cause -> mean share over trials and its 95 % bootstrap interval; a cause that a trial does not name has 0."""
    rows = list(shares)
    return {cause: bootstrap_mean([row.get(cause, 0.0) for row in rows], seed) for cause in causes}
