"""The figures of an evaluation in short; the whole story is in `affordagent report`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from affordagent.evaluations.runner.records import Row
from affordagent.evaluations.statistics import mcnemar, rate

LEVELS = ("setting", "style", "seen", "category", "expected")


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Success with Wilson intervals: in all and by each of LEVELS; pairs of settings and of styles with McNemar's exact
    p; failures by stage and code; CPU seconds a trial."""
    by: dict[str, dict[str, Any]] = {}
    for name in LEVELS:
        groups: dict[Any, list[Row]] = defaultdict(list)
        for row in rows:
            groups[row[name]].append(row)  # type: ignore[literal-required]
        if len(groups) > 1:
            by[name] = {str(level): _success(some) for level, some in sorted(groups.items(), key=lambda g: str(g[0]))}
    cpu_s = [sum(row["cpu_s"].values()) for row in rows]
    return {
        "success": _success(rows),
        "by": by,
        "pairs": [*_pairs(rows, "setting"), *_pairs(rows, "style")],
        "failures": dict(Counter(_said(row) for row in rows if not row["success"]).most_common()),
        "cpu_s_a_trial": {"mean": round(float(np.mean(cpu_s)), 2), "median": round(float(np.median(cpu_s)), 2)},
    }


def _success(rows: Sequence[Row]) -> dict[str, Any]:
    return rate(sum(row["success"] for row in rows), len(rows))


def _said(row: Row) -> str:
    return f"{row['failure_stage']} {row['failure_code']}" if row["failure_code"] else row["outcome"]


def _pairs(rows: Sequence[Row], name: str) -> list[dict[str, Any]]:
    """Each level of `name` against the first, on the trials that share all else."""
    levels = list(dict.fromkeys(row[name] for row in rows))  # type: ignore[literal-required]
    found: dict[Any, dict[Hashable, bool]] = defaultdict(dict)
    for row in rows:
        shared = ("setting", "style", "scene", "seed", "repeat", "group")
        situation = tuple(row[field] for field in shared if field != name)  # type: ignore[literal-required]
        if name == "setting":
            situation += (row["command_id"],)
        found[row[name]][situation] = row["success"]  # type: ignore[literal-required]
    pairs = []
    for other in levels[1:]:
        both = found[levels[0]].keys() & found[other].keys()
        ends = Counter((found[levels[0]][situation], found[other][situation]) for situation in both)
        only = ends[True, False], ends[False, True]
        if both:
            names = {"first": levels[0], "second": other, "pairs": len(both)}
            pairs.append(
                {**names, "only_first": only[0], "only_second": only[1], "mcnemar_p": round(mcnemar(*only), 5)}
            )
    return pairs


def blame(attributions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How often which causes are to blame for a failure (joined where only several together are), whether the replays
    ended as the trials had, and CPU seconds each."""
    failed = [a for a in attributions if not a["evidence"]["success"]]
    cpu_s = [a["evidence"]["cpu_s"] for a in attributions]
    return {
        "failures": len(failed),
        "causal": dict(Counter(" + ".join(a["causal"]) or "nothing found" for a in failed).most_common()),
        "first_failing": dict(Counter(a["first_failing"] or "none" for a in failed).most_common()),
        "reproduced": rate(sum(bool(a["evidence"]["reproduced"]) for a in attributions), len(attributions)),
        "cpu_s_an_attribution": round(float(np.mean(cpu_s)), 2) if cpu_s else None,
    }
