"""Run the tasks: rows in OUT/trials.jsonl as they end, run folders in OUT/runs, rates in OUT/summary.json.

python -m affordagent.evaluations.tasks --out DIR [--tasks slide ...] [--ways default ...] [--first-seed 0]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from affordagent.agent.results import versions
from affordagent.agent.session import Tools
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import write_json
from affordagent.evaluations.runner.records import EVALUATION, TRIALS
from affordagent.evaluations.statistics import bootstrap_mean, rate
from affordagent.evaluations.tasks.table import TASKS, WAYS
from affordagent.evaluations.tasks.trial import SUITE, TaskTrial, run_task
from affordagent.evaluations.trials import Row, run_trials

_tools: Tools | None = None  # one set of models a worker process


def trials_of(tasks: Sequence[str], ways: Sequence[str], seeds: Sequence[int], noise: bool = False) -> list[TaskTrial]:
    """The trials of each task, by seed, so that a run that is stopped early has all of them; "slide" in all ways.

    Raises:
        AffordAgentError: no such task or way.
    """
    for given, known in ((tasks, TASKS), (ways, WAYS)):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise AffordAgentError(f"no {unknown[0]!r} here; there are: {', '.join(known)}")
    return [
        TaskTrial(task, seed, way, noise)
        for seed in seeds
        for task in tasks
        for way in (ways if task == "slide" else ["default"])
    ]


def run(
    out: Path,
    trials: Sequence[TaskTrial],
    workers: int = 1,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """The rows of the trials, in their order; those that OUT holds already are not run again.

    Writes evaluation.json, trials.jsonl, runs/ and summary.json, as other evaluations do.
    """
    asked = {"suite": SUITE, "settings": {name: {} for name in dict.fromkeys(t.setting for t in trials)}}
    seeds = sorted({t.seed for t in trials})
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / EVALUATION, {**asked, "seeds": seeds, "versions": versions()})
    rows = run_trials(trials, out / TRIALS, partial(_work, out=out), workers, on_row)
    write_json(out / "summary.json", {"versions": versions(), **summarise(rows)})
    return rows


def _work(trial: TaskTrial, out: Path) -> Row:
    global _tools
    if _tools is None:
        import torch

        torch.set_num_threads(1)
        _tools = Tools()
    return dict(run_task(trial, out, _tools))


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """By task and way: success with its Wilson interval, failures by stage and code, modes of slides, CPU-s."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        name = row["scene"] + (f": {row['setting']}" if row["scene"] == "slide" else "")
        groups.setdefault(name + (" (noise)" if row["noise"] else ""), []).append(row)
    return {name: _summary(some) for name, some in groups.items()}


def _summary(rows: list[Row]) -> dict[str, Any]:
    failed = [row for row in rows if not row["success"]]
    found: dict[str, Any] = {
        "success": rate(sum(row["success"] for row in rows), len(rows)),
        "failures": dict(Counter(f"{row['failure_stage']} {row['failure_code']}" for row in failed).most_common()),
        "cpu_s": round(bootstrap_mean([sum(row["cpu_s"].values()) for row in rows])[0], 2),
    }
    if rows[0]["slide"]:
        over = sum(bool(row["measured"].get("middle_over_target")) for row in rows)
        found["middle_over_target"] = rate(over, len(rows))
        found["modes"] = dict(Counter(str(row["mode"]) for row in failed).most_common())
    return found
