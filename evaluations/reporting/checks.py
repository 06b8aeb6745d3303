"""Were the judges right, and how long did it take? Sensors against the truth, blame against injected faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from affordagent.core.causes import CAUSES, KIND_OF_CAUSE
from affordagent.evaluations.reporting.blame import causal, column, columns_of
from affordagent.evaluations.reporting.success import Figures, share
from affordagent.evaluations.runner.records import Row

SLOWEST = 12


def verified(rows: Sequence[Row]) -> Figures:
    """The sensors' verdict against the simulator's on the motion, of the trials that have both.

    The truth is that all of the simulator's `checks` passed, whatever was expected: a thing that should not have been
    grasped at all may well be grasped. false_success: said to be a success and was none, of all that were judged;
    false_success_of_claimed: of those said to be a success; false_success_of_failed: of those that failed in truth.
    false_failure likewise. missed_checks: the checks that failed in false successes.
    """
    judged = [row for row in rows if row["sensed_success"] is not None and row["checks"]]
    said = [bool(row["sensed_success"]) for row in judged]
    true = [all(row["checks"].values()) for row in judged]
    missed = Counter(name for row in judged if row["sensed_success"] for name, ok in row["checks"].items() if not ok)
    false_success = [row["key"] for row, s, t in zip(judged, said, true, strict=True) if s and not t]
    false_failure = [row["key"] for row, s, t in zip(judged, said, true, strict=True) if t and not s]
    n, claimed, succeeded = len(judged), sum(said), sum(true)
    return {
        "judged": n,
        "not_judged": len(rows) - n,
        "agree": share(n - len(false_success) - len(false_failure), n),
        "false_success": share(len(false_success), n),
        "false_success_of_claimed": share(len(false_success), claimed),
        "false_success_of_failed": share(len(false_success), n - succeeded),
        "false_failure": share(len(false_failure), n),
        "false_failure_of_claimed": share(len(false_failure), n - claimed),
        "false_failure_of_succeeded": share(len(false_failure), succeeded),
        "missed_checks": dict(missed.most_common()),
        "false_success_keys": false_success,
        "false_failure_keys": false_failure,
    }


def confusion(rows: Sequence[Row]) -> Figures | None:
    """Injected cause against blamed cause, of the failed trials that carry a fault and were attributed; None without
    faults.

    table: injected -> blamed -> trials. exact: the injected cause alone is blamed; among: it is, with others perhaps;
    kind: all that are blamed are of its kind (visual, pose, hardware); visual_or_pose: the same, of trials with a
    visual or a pose fault. by_cause, by_fault: exact. harmless: trials that succeeded in spite of their fault.
    """
    faulty = [row for row in rows if row["fault"] is not None]
    if not faulty:
        return None
    failed = [row for row in faulty if not row["success"]]
    judged = [row for row in failed if row["attribution"] is not None]
    table: dict[str, Counter[str]] = {}
    for row in judged:
        table.setdefault(_injected(row), Counter())[column(row)] += 1
    two = [row for row in judged if KIND_OF_CAUSE[_injected(row)] in ("visual", "pose")]
    return {
        "faulty": len(faulty),
        "harmless": len(faulty) - len(failed),
        "not_attributed": len(failed) - len(judged),
        "n": len(judged),
        "table": {cause: dict(table[cause].most_common()) for cause in CAUSES if cause in table},
        "columns": columns_of(table),
        "exact": _right(judged),
        "among": share(sum(_injected(row) in (causal(row) or ()) for row in judged), len(judged)),
        "kind": share(sum(map(_right_kind, judged)), len(judged)),
        "visual_or_pose": share(sum(map(_right_kind, two)), len(two)),
        "by_cause": {c: _right([r for r in judged if _injected(r) == c]) for c in CAUSES if c in table},
        "by_fault": {
            name: _right([row for row in judged if fault_name(row) == name])
            for name in sorted({fault_name(row) for row in judged})
        },
    }


def fault_name(row: Row) -> str:
    """Cause, name and size of the injected fault, "" without one."""
    fault = row["fault"]
    if fault is None:
        return ""
    return f"{fault['cause']}: {fault['name']}" + ("" if fault["size"] is None else f" {fault['size']:g}")


def _injected(row: Row) -> str:
    assert row["fault"] is not None
    return row["fault"]["cause"]


def _right(rows: Sequence[Row]) -> Figures:
    return share(sum(causal(row) == (_injected(row),) for row in rows), len(rows))


def _right_kind(row: Row) -> bool:
    return {KIND_OF_CAUSE[cause] for cause in causal(row) or ()} == {KIND_OF_CAUSE[_injected(row)]}


def times(rows: Sequence[Row]) -> Figures:
    """CPU seconds of each stage over the trials that reached it, most costly first; wall seconds of whole trials."""
    by_stage: dict[str, list[float]] = {}
    for row in rows:
        for stage, cpu_s in row["cpu_s"].items():
            by_stage.setdefault(stage, []).append(cpu_s)
    total = sum(sum(values) for values in by_stage.values())
    stages: dict[str, Any] = {
        stage: _spread(values) | {"of_all": round(sum(values) / total, 4) if total else None}
        for stage, values in sorted(by_stage.items(), key=lambda item: -sum(item[1]))
    }
    slowest = sorted(rows, key=lambda row: -row["wall_s"])[:SLOWEST]
    return {
        "stages": stages,
        "cpu_s": _spread([sum(row["cpu_s"].values()) for row in rows]),
        "wall_s": _spread([row["wall_s"] for row in rows]),
        "slowest": [row["key"] for row in slowest],
    }


def _spread(values: Sequence[float]) -> Figures:
    if not values:
        return {"n": 0, "mean": None, "median": None, "p90": None, "max": None, "sum": 0.0}
    return {
        "n": len(values),
        "mean": round(float(np.mean(values)), 4),
        "median": round(float(np.median(values)), 4),
        "p90": round(float(np.percentile(values, 90)), 4),
        "max": round(float(np.max(values)), 4),
        "sum": round(float(np.sum(values)), 2),
    }
