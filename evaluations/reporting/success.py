"""How often it worked: in all, and by what the trials have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from affordagent.evaluations.runner.records import Row
from affordagent.evaluations.statistics import bootstrap_ratio, rate

Figures = dict[str, Any]
OUTSIDE_ABOVE = 0.5  # `commands.distance.StyleDistance.combined` of a text outside the training style


def share(k: int, n: int) -> Figures:
    """`rate`, with None for a rate of nothing."""
    return rate(k, n) if n else {"k": 0, "n": 0, "rate": None, "wilson95": None}


def estimate(values: ArrayLike) -> Figures:
    """(3,) value and bounds as {"value", "bootstrap95"}; None for what is not a number."""
    value, low, high = (None if np.isnan(v) else round(float(v), 4) for v in np.asarray(values, float))
    return {"value": value, "bootstrap95": None if value is None or low is None else [low, high]}


def success_rate(rows: Iterable[Row]) -> Figures:
    outcomes = [row["success"] for row in rows]
    return share(sum(outcomes), len(outcomes))


def _by_distance(row: Row) -> str | None:
    if row["distance"] is None:
        return None
    return "outside the training style" if row["distance"] > OUTSIDE_ABOVE else "inside the training style"


DIMENSIONS: dict[str, Callable[[Row], str | None]] = {
    "setting": lambda row: row["setting"],
    "style": lambda row: row["style"] or None,
    "distance": _by_distance,
    "category": lambda row: row["category"],
    "seen": lambda row: None if row["seen"] is None else "seen" if row["seen"] else "unseen",
    "scene": lambda row: row["scene"],
    "noise": lambda row: "noisy" if row["noise"] else "clean",
    "expected": lambda row: row["expected"],
    "language": lambda row: row["language"] or None,
    "part": lambda row: row["part"],
}
"""What trials are told apart by: name -> level of a row, None = has none."""


def success(rows: Sequence[Row], planned: int) -> Figures:
    """Rates with Wilson intervals.

    planned: trials that were asked for. by_scene: the same rate with a bootstrap interval over scenes, which is wider
    where trials of one scene end alike. if_missing: the rate if what is missing had all failed, or all succeeded.
    by: dimension -> level -> {"all": rate, "settings": {setting: rate}}, most trials first.
    """
    scenes: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for row in rows:
        scenes[row["scene"], row["seed"]].append(row["success"])
    overall = success_rate(rows)
    clustered = bootstrap_ratio([(sum(found), len(found)) for found in scenes.values()])
    missing = planned - len(rows)
    return {
        "overall": overall,
        "by_scene": {"scenes": len(scenes)} | estimate(clustered),
        "if_missing": [share(overall["k"], planned)["rate"], share(overall["k"] + missing, planned)["rate"]],
        "by": {name: _levels(rows, level_of) for name, level_of in DIMENSIONS.items()},
    }


def _levels(rows: Sequence[Row], level_of: Callable[[Row], str | None]) -> dict[str, Figures]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        level = level_of(row)
        if level is not None:
            groups[level].append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {level: {"all": success_rate(found), "settings": _by_setting(found)} for level, found in ordered}


def _by_setting(rows: Sequence[Row]) -> dict[str, Figures]:
    settings = dict.fromkeys(row["setting"] for row in rows)
    return {setting: success_rate(row for row in rows if row["setting"] == setting) for setting in settings}
