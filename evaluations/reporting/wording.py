"""Does it matter how one says it? Success of commands that mean the same, in the same place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affordagent.evaluations.reporting.success import Figures, estimate, share, success_rate
from affordagent.evaluations.runner.records import Row
from affordagent.evaluations.statistics import bootstrap_mean, bootstrap_sums

WIDEST = 12  # groups listed


def wording(rows: Sequence[Row]) -> Figures:
    """A comparison is everything that was said of one group in one scene, seed and setting, at least two wordings;
    a wording's score is its rate of success there (repeats together).

    all_right, all_wrong, mixed: shares of the comparisons. spread: best less worst wording, mean over comparisons.
    icc: intraclass correlation of single wordings by one-way analysis of variance, ICC(1) of Shrout and Fleiss (1979),
    with the usual n0 where comparisons are not of one size; 1 = wording does not matter, 0 or less = wordings of one
    comparison are no more alike than any two. widest: groups by the spread over all their comparisons, with each
    wording's rate.
    """
    compared = {place: said for place, said in _by_place(rows).items() if len(said) > 1}
    values = [np.array([np.mean([r["success"] for r in mine]) for mine in said.values()]) for said in compared.values()]
    columns = np.array([[1, len(v), len(v) ** 2, v.sum(), v.sum() ** 2 / len(v), (v**2).sum()] for v in values])
    right, wrong = (sum(bool((v == end).all()) for v in values) for end in (1.0, 0.0))
    return {
        "comparisons": len(values),
        "groups": len({place[-1] for place in compared}),
        "wordings": sum(len(v) for v in values),
        "all_right": share(right, len(values)),
        "all_wrong": share(wrong, len(values)),
        "mixed": share(len(values) - right - wrong, len(values)),
        "spread": estimate(bootstrap_mean([float(np.ptp(v)) for v in values])),
        "icc": estimate(bootstrap_sums(columns.reshape(-1, 6), _icc)[0]),
        "widest": _widest([row for said in compared.values() for mine in said.values() for row in mine]),
    }


def _by_place(rows: Sequence[Row]) -> dict[tuple[Any, ...], dict[str, list[Row]]]:
    """Place, its group last -> command -> trials. Commands of no group are left out."""
    found: dict[tuple[Any, ...], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["group"]:
            fault = tuple(sorted((row["fault"] or {}).items()))
            place = (row["suite"], row["setting"], row["noise"], row["scene"], row["seed"], fault, row["group"])
            found[place][row["command_id"]].append(row)
    return found


def _widest(rows: Sequence[Row]) -> list[Figures]:
    groups: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["group"]][row["command_id"]].append(row)
    found = []
    for group, said in groups.items():
        wordings: list[Figures] = [
            {"command_id": command, "text": mine[0]["text"]} | success_rate(mine) for command, mine in said.items()
        ]
        wordings.sort(key=lambda w: (w["rate"], w["command_id"]))
        spread = round(wordings[-1]["rate"] - wordings[0]["rate"], 4)
        found.append({"group": group, "spread": spread, "wordings": wordings})
    found.sort(key=lambda g: (-g["spread"], g["group"]))
    return [group for group in found[:WIDEST] if group["spread"] > 0]


def _icc(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, 1) from sums over comparisons: 1, n, n^2, total, total^2/n, squares. NaN where nothing varies."""
    k, n, n_squared, total, between, squares = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        ms_between = (between - total**2 / n) / (k - 1)
        ms_within = (squares - between) / (n - k)
        n0 = (n - n_squared / n) / (k - 1)
        icc = (ms_between - ms_within) / (ms_between + (n0 - 1) * ms_within)
    return np.where(np.isfinite(icc), icc, np.nan)[:, None]
