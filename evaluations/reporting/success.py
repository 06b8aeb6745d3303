"""How often it worked: in all, by what the trials have in common, and one setting against another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from affordagent.evaluations.runner.records import Row
from affordagent.evaluations.statistics import bootstrap_ratio, holm, mcnemar, rate

Figures = dict[str, Any]
NAMED_PAIRS = 200  # discordant pairs named of each kind; the count is of all


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


def dimensions(outside_above: float) -> dict[str, Callable[[Row], str | None]]:
    """What trials are told apart by: name -> level of a row, None = has none.

    outside_above: distance from the training texts from which a text counts as outside their style.
    """

    def by_distance(row: Row) -> str | None:
        if row["distance"] is None:
            return None
        return "outside the training style" if row["distance"] > outside_above else "inside the training style"

    return {
        "setting": lambda row: row["setting"],
        "style": lambda row: row["style"] or None,
        "distance": by_distance,
        "category": lambda row: row["category"],
        "seen": lambda row: None if row["seen"] is None else "seen" if row["seen"] else "unseen",
        "scene": lambda row: row["scene"],
        "noise": lambda row: "noisy camera" if row["noise"] else "clean camera",
        "expected": lambda row: row["expected"],
        "language": lambda row: row["language"] or None,
        "part": lambda row: row["part"],
    }


def success(rows: Sequence[Row], planned: int, outside_above: float) -> Figures:
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
        "by": {name: _levels(rows, level_of) for name, level_of in dimensions(outside_above).items()},
    }


def _levels(rows: Sequence[Row], level_of: Callable[[Row], str | None]) -> dict[str, Figures]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        level = level_of(row)
        if level is not None:
            groups[level].append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {
        level: {
            "all": success_rate(found),
            "settings": {s: success_rate(r for r in found if r["setting"] == s) for s in settings_of(found)},
        }
        for level, found in ordered
    }


def settings_of(rows: Iterable[Row]) -> list[str]:
    """In the order in which they first came."""
    return list(dict.fromkeys(row["setting"] for row in rows))


def situation(row: Row) -> tuple[Any, ...]:
    """What two trials of different settings must share to be a pair."""
    fault = row["fault"]
    named = (None, None, None) if fault is None else (fault["cause"], fault["name"], fault["size"])
    return row["suite"], row["scene"], row["seed"], row["repeat"], row["command_id"], *named


def paired_settings(rows: Sequence[Row]) -> list[Figures]:
    """Every two settings on the trials that differ in the setting alone: McNemar's exact test, the pairs that differ.

    p_holm: adjusted for all comparisons of this list. first_success, second_success: on the pairs alone. unpaired:
    trials of the two that are in no pair: the other setting lacks their like, or has it more than once.
    """
    by_setting: dict[str, dict[tuple[Any, ...], list[Row]]] = {s: defaultdict(list) for s in settings_of(rows)}
    for row in rows:
        by_setting[row["setting"]][situation(row)].append(row)
    found = [_compare(a, by_setting[a], b, by_setting[b]) for a, b in combinations(by_setting, 2)]
    for test, p in zip(found, holm([test["mcnemar_p"] for test in found]), strict=True):
        test["p_holm"] = float(p)
    return found


Situations = Mapping[tuple[Any, ...], list[Row]]


def _compare(first: str, ours: Situations, second: str, theirs: Situations) -> Figures:
    shared = [(ours[key], theirs[key]) for key in ours if key in theirs]
    pairs = [(a[0], b[0]) for a, b in shared if len(a) == len(b) == 1]
    only_first = [pair for pair in pairs if pair[0]["success"] and not pair[1]["success"]]
    only_second = [pair for pair in pairs if pair[1]["success"] and not pair[0]["success"]]
    trials = sum(len(found) for found in (*ours.values(), *theirs.values()))
    return {
        "first": first,
        "second": second,
        "pairs": len(pairs),
        "unpaired": trials - 2 * len(pairs),
        "first_success": success_rate(a for a, _ in pairs),
        "second_success": success_rate(b for _, b in pairs),
        "only_first": len(only_first),
        "only_second": len(only_second),
        "mcnemar_p": mcnemar(len(only_first), len(only_second)),
        "discordant": {"only_first": _named(only_first), "only_second": _named(only_second)},
    }


def _named(pairs: Sequence[tuple[Row, Row]]) -> list[Figures]:
    """Both keys, what was said, and the code of the one that failed."""
    return [
        {
            "first": a["key"],
            "second": b["key"],
            "text": a["text"],
            "code": (b if a["success"] else a)["failure_code"],
        }
        for a, b in pairs[:NAMED_PAIRS]
    ]
