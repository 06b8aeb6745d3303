"""Why trials failed: where they ended, what was to blame, and what repairing it would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from affordagent.core.causes import CAUSES, KIND_OF_CAUSE
from affordagent.evaluations.reporting.success import Figures, estimate, share
from affordagent.evaluations.runner.records import Row
from affordagent.evaluations.statistics import bootstrap_mean, bootstrap_sums

KINDS = ("visual", "pose", "hardware")
NOT_ATTRIBUTED, NOTHING = "not attributed", "nothing found"
SEVERAL, NOT_AGAIN, NO_REPAIR = "several", "not when repeated", "no repair helps"


def ended_at(row: Row) -> str:
    """The stage a trial ended at, or its outcome where no stage failed."""
    if row["success"]:
        return "success"
    return row["failure_stage"] or {"success": "done, but wrong"}.get(row["outcome"], row["outcome"].replace("_", " "))


def causal(row: Row) -> tuple[str, ...] | None:
    """The causes to blame; None = not attributed."""
    found = row["attribution"]
    return None if found is None else tuple(found["causal"])


def blamed(row: Row) -> str:
    """`causal` in words; without a cause: the trial succeeds when it is replayed unchanged, or fails with all stages
    repaired, or the rules found nothing."""
    found = row["attribution"]
    if found is None:
        return NOT_ATTRIBUTED
    if found["causal"]:
        return " + ".join(found["causal"])
    if found["by"] == "evidence":
        return NOTHING
    return NOT_AGAIN if found["evidence"].get("success") else NO_REPAIR


def column(row: Row) -> str:
    """`blamed`, with all that have several causes together."""
    return SEVERAL if len(causal(row) or ()) > 1 else blamed(row)


def columns_of(table: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What is blamed in a table's rows: causes in the pipeline's order, then the rest."""
    found = {name for row in table.values() for name in row}
    order = (*CAUSES, SEVERAL, NOT_AGAIN, NO_REPAIR, NOTHING)
    return sorted(found, key=order.index)


def code_of(row: Row) -> str:
    """The attribution's code, else the one the run ended with."""
    found = row["attribution"]
    return (found and found["code"]) or row["failure_code"] or row["sensed_code"] or "no code"


def kind_of(row: Row) -> str | None:
    """visual, pose or hardware: of the first causal stage; None = nothing blamed."""
    causes = causal(row)
    return KIND_OF_CAUSE[causes[0]] if causes else None


def flow(rows: Sequence[Row]) -> list[Figures]:
    """Trials by where they ended, the causal stage and the code; cause and code are None of successes."""
    paths: Counter[tuple[str, str | None, str | None]] = Counter()
    for row in rows:
        paths[(ended_at(row), None, None) if row["success"] else (ended_at(row), blamed(row), code_of(row))] += 1
    return [{"ended": e, "cause": c, "code": code, "n": n} for (e, c, code), n in paths.most_common()]


def kinds(rows: Sequence[Row]) -> Figures:
    """Visual, pose and hardware shares of the failed trials that something is to blame for.

    first: by the first causal stage. shapley: each failed trial's Shapley values, summed by kind and divided by what
    repairing all gains, so that a failure with several causes counts for each in part; bootstrap over trials.
    by_evidence: how many were judged by rules, without replays.
    """
    failed = [row for row in rows if not row["success"]]
    attributed = [row for row in failed if row["attribution"] is not None]
    named = [row for row in attributed if causal(row)]
    several = sum(len({KIND_OF_CAUSE[c] for c in causal(row) or ()}) > 1 for row in named)
    indicators = np.array([[kind_of(row) == kind for kind in KINDS] for row in named], float).reshape(-1, len(KINDS))
    first = {
        kind: share(int(column.sum()), len(named)) | estimate(bootstrap_mean(column))
        for kind, column in zip(KINDS, indicators.T, strict=True)
    }
    by_cause = shapley_values(attributed)
    by_kind = by_cause @ np.array([[KIND_OF_CAUSE[c] == kind for kind in KINDS] for c in CAUSES], float)
    weighted = bootstrap_sums(by_kind, lambda sums: _divided(sums, sums.sum(1, keepdims=True)))
    return {
        "failed": len(failed),
        "attributed": len(attributed),
        "by_evidence": sum((row["attribution"] or {})["by"] == "evidence" for row in attributed),
        "blamed": len(named),
        "without_a_cause": dict(Counter(blamed(row) for row in attributed if not causal(row))),
        "several_kinds": several,
        "first": first,
        "shapley": {kind: estimate(values) for kind, values in zip(KINDS, weighted, strict=True)},
    }


def shapley_values(rows: Sequence[Row]) -> NDArray[np.float64]:
    """(N, 7) of attributed trials, in the order of `CAUSES`."""
    shares = [(row["attribution"] or {})["shares"] for row in rows]
    return np.array([[found.get(cause, 0.0) for cause in CAUSES] for found in shares], float).reshape(-1, len(CAUSES))


def shapley(rows: Sequence[Row]) -> Figures:
    """Mean Shapley value of each cause over the failed trials that were attributed: points of success that its repair
    gives on average. gain: their sum, what repairing all gives."""
    failed = [row for row in rows if not row["success"] and row["attribution"] is not None]
    values = shapley_values(failed)
    table = bootstrap_sums(
        np.column_stack([values, values.sum(1), np.ones(len(values))]),
        lambda sums: _divided(sums[:, :-1], sums[:, -1:]),
    )
    return {
        "n": len(failed),
        "causes": {cause: estimate(row) for cause, row in zip(CAUSES, table, strict=False)},
        "gain": estimate(table[-1]),
    }


def first_against_causal(rows: Sequence[Row]) -> Figures:
    """First failing stage against causal stages, of failed trials that were attributed.

    table: first failing (or "none") -> blamed, see `column` -> trials; columns: in order. differ: the first failing
    stage is not among the causal ones.
    """
    failed = [row for row in rows if not row["success"] and row["attribution"] is not None]
    table: dict[str, Counter[str]] = {}
    differ = 0
    for row in failed:
        first = (row["attribution"] or {})["first_failing"]
        table.setdefault(first or "none", Counter())[column(row)] += 1
        differ += first not in (causal(row) or (None,))
    order = (*CAUSES, "none")
    return {
        "table": {first: dict(table[first].most_common()) for first in sorted(table, key=order.index)},
        "columns": columns_of(table),
        "differ": share(differ, len(failed)),
    }


def luck(rows: Sequence[Row]) -> Figures:
    """How often a trial that is repeated unchanged succeeds, of those that failed and of those that succeeded."""

    def repeated(outcome: bool) -> Figures:
        mine = [row for row in rows if row["success"] == outcome and row["attribution"] is not None]
        found = [(row["attribution"] or {})["luck"] for row in mine]
        rates = np.array([value for value in found if value is not None], float)
        return {
            "n": len(rates),
            "mean": estimate(bootstrap_mean(rates)),
            "never": int((rates == 0).sum()),
            "sometimes": int(((rates > 0) & (rates < 1)).sum()),
            "always": int((rates == 1).sum()),
        }

    return {"failed": repeated(False), "succeeded": repeated(True)}


def ladder(rows: Sequence[Row]) -> Figures:
    """What success would be with a perfect stage, and all before it perfect too.

    Failed trials count with what their replays gave; where only some were attributed, those stand for all that failed.
    Successes count with their replays where some were made, else as successes. Intervals: bootstrap over all trials.
    """
    failed = [row for row in rows if not row["success"]]
    known = [row for row in failed if _steps(row) is not None]
    succeeded = [row for row in rows if row["success"] and _steps(row) is not None]
    if not known and failed:
        return {"steps": [], "failed": len(failed), "failed_replayed": 0, "succeeded_replayed": len(succeeded)}
    values = np.array([_ladder_row(row) for row in rows], float).reshape(-1, 4 + 2 * len(CAUSES))
    table = bootstrap_sums(values, _ladder_rates)
    names = ("as it is", *CAUSES)
    return {
        "steps": [{"perfect": name} | estimate(found) for name, found in zip(names, table, strict=True)],
        "failed": len(failed),
        "failed_replayed": len(known),
        "succeeded_replayed": len(succeeded),
    }


def _steps(row: Row) -> list[float] | None:
    """Rate of success with each cause and all before it repaired; a cause that was not replayed changes nothing."""
    found: Mapping[str, float] = (row["attribution"] or {}).get("ladder") or {}
    if not found:
        return None
    steps, so_far = [], float(row["success"])
    for cause in CAUSES:
        so_far = float(found.get(cause, so_far))
        steps.append(so_far)
    return steps


def _ladder_row(row: Row) -> list[float]:
    """Succeeded, failed; those of them that were replayed; and their steps, each in its own columns."""
    steps = _steps(row)
    nothing = [0.0] * len(CAUSES)
    mine = [float(steps is not None), *(steps or nothing)]
    other = [0.0, *nothing]
    halves = (mine, other) if row["success"] else (other, mine)
    return [float(row["success"]), float(not row["success"]), *halves[0], *halves[1]]


def _ladder_rates(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, 1 + 7) from sums of `_ladder_row`s: (R, 18)."""
    won, lost = sums[:, 0:1], sums[:, 1:2]
    half = 1 + len(CAUSES)
    of_won, of_lost = sums[:, 2 : 2 + half], sums[:, 2 + half :]
    kept = np.where(of_won[:, :1] > 0, _divided(of_won[:, 1:], of_won[:, :1]), 1.0)
    gained = np.where(lost > 0, _divided(of_lost[:, 1:], of_lost[:, :1]), 0.0)
    return _divided(np.column_stack([won, won * kept + lost * gained]), won + lost)


def _divided(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where nothing is divided by nothing."""
    return np.divide(a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), np.nan), where=b != 0)
