"""Were the judges right, and how long did it take? Sensors against the truth, blame against injected faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from affordagent.core.causes import CAUSES, KIND_OF_CAUSE
from affordagent.evaluations.reporting.blame import blamed, causal
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

    table: injected -> blamed -> trials. exact: the injected cause alone is blamed; first: it is the first one blamed;
    kind: the first blamed is of its kind (visual, pose, hardware); visual_or_pose: of trials with a visual or a pose
    fault, the same. harmless: trials that succeeded in spite of their fault.
    """
    faulty = [(row, row["fault"]["cause"]) for row in rows if row["fault"] is not None]
    if not faulty:
        return None
    failed = [(row, cause) for row, cause in faulty if not row["success"]]
    judged = [(cause, causal(row) or (), blamed(row)) for row, cause in failed if row["attribution"] is not None]
    table: dict[str, Counter[str]] = {}
    for cause, _, said in judged:
        table.setdefault(cause, Counter())[said] += 1
    kinds = [(KIND_OF_CAUSE[cause], KIND_OF_CAUSE[found[0]] if found else None) for cause, found, _ in judged]
    two = [(true, said) for true, said in kinds if true in ("visual", "pose")]
    n = len(judged)
    return {
        "faulty": len(faulty),
        "harmless": len(faulty) - len(failed),
        "not_attributed": len(failed) - n,
        "n": n,
        "table": {cause: dict(table[cause].most_common()) for cause in CAUSES if cause in table},
        "exact": share(sum(found == (cause,) for cause, found, _ in judged), n),
        "first": share(sum(found[:1] == (cause,) for cause, found, _ in judged), n),
        "kind": share(sum(true == said for true, said in kinds), n),
        "visual_or_pose": share(sum(true == said for true, said in two), len(two)),
        "by_cause": {
            cause: share(sum(found[:1] == (cause,) for c, found, _ in judged if c == cause), sum(table[cause].values()))
            for cause in CAUSES
            if cause in table
        },
    }


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
