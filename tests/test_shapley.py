"""Shares of the blame: the properties that define them (Shapley 1953), and the sets and ladders read off the values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affordagent.core.causes import CAUSES
from affordagent.evaluations.causes.shapley import Coalition, causal_set, coalitions, ladder, mean_shares, shapley

Value = Callable[[Coalition], float]
PLAYERS = CAUSES[:4]


@st.composite
def games(draw: st.DrawFn, players: tuple[str, ...] = PLAYERS) -> Value:
    values = {c: draw(st.integers(0, 1)) for c in coalitions(players)}
    return lambda coalition: float(values[coalition])


@given(games())
def test_shares_sum_to_what_repairing_all_gains(value: Value) -> None:
    gain = value(frozenset(PLAYERS)) - value(frozenset())
    assert sum(shapley(PLAYERS, value).values()) == pytest.approx(gain, abs=1e-12)


@given(games(PLAYERS[:3]))
def test_a_null_player_gets_nothing_and_changes_nothing(value: Value) -> None:
    null = PLAYERS[3]
    shares = shapley(PLAYERS, lambda c: value(c - {null}))
    assert shares[null] == 0
    without = shapley(PLAYERS[:3], value)
    assert {p: shares[p] for p in without} == pytest.approx(without)


@given(games())
def test_players_that_can_be_exchanged_get_the_same(value: Value) -> None:
    first, second = PLAYERS[0], PLAYERS[2]
    swapped = {first: second, second: first}
    shares = shapley(PLAYERS, value)
    exchanged = shapley(PLAYERS, lambda c: value(frozenset(swapped.get(p, p) for p in c)))
    assert exchanged[first] == pytest.approx(shares[second])
    assert exchanged[second] == pytest.approx(shares[first])


@given(games(), games())
def test_shares_of_a_sum_are_the_sum_of_the_shares(one: Value, other: Value) -> None:
    both = shapley(PLAYERS, lambda c: one(c) + other(c))
    alone = [shapley(PLAYERS, value) for value in (one, other)]
    assert both == pytest.approx({p: alone[0][p] + alone[1][p] for p in PLAYERS})


@given(games())
def test_the_causal_set_is_the_smallest_and_then_the_earliest(value: Value) -> None:
    found = causal_set(PLAYERS, value)
    mending = [c for c in coalitions(PLAYERS) if value(c) == 1]
    if not mending or value(frozenset()) == 1:
        assert found == ()
        return
    assert value(frozenset(found)) == 1
    assert len(found) == min(len(c) for c in mending)
    first = [sorted(map(PLAYERS.index, c)) for c in mending if len(c) == len(found)]
    assert sorted(map(PLAYERS.index, found)) == min(first)


def test_two_faults_that_must_both_be_mended_share_the_blame() -> None:
    def value(repaired: Coalition) -> float:
        return float({"language", "grasp"} <= repaired)

    assert shapley(("language", "grounding", "grasp"), value) == {"language": 0.5, "grounding": 0.0, "grasp": 0.5}
    assert causal_set(("language", "grounding", "grasp"), value) == ("language", "grasp")
    steps = ladder(CAUSES, value)
    assert [cause for cause in CAUSES if steps[cause]] == ["grasp", "planning", "execution"]


def test_mean_shares_with_intervals() -> None:
    means = mean_shares([{"grasp": 1.0}, {"grounding": 1.0}] * 20, ("grounding", "grasp", "planning"))
    mean, low, high = means["grasp"]
    assert mean == 0.5
    assert 0.25 < low < 0.5 < high < 0.75
    assert means["planning"] == (0.0, 0.0, 0.0)
