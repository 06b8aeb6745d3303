"""Trials that are kept one by one, so that a long evaluation may be stopped and goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from affordagent.core.jsonl import append_line, read_lines
from affordagent.core.workers import Keyed, process_pool, ray_pool, work_through

Row = dict[str, Any]
Trial = TypeVar("Trial", bound=Keyed)


def run_trials(
    trials: Sequence[Trial],
    log: Path,
    work: Callable[[Trial], Row],
    workers: int | None = 1,
    on_row: Callable[[Row], None] = lambda row: None,
    ray: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """The rows of all trials in their order, each with its "key".

    Rows found in `log` (JSONL) are kept; the other trials run in `workers` fresh processes, and each row is on the disk
    before `on_row` is called with it. work: picklable. ray: address of a Ray cluster that takes the place of the
    processes, see `workers.ray_pool`. say: told when Ctrl-C waits for what is in flight.

    Raises:
        AffordAgentError: some trials raised, after all others have been run.
        KeyboardInterrupt: after Ctrl-C; the rows so far are kept.
    """
    rows = {row["key"]: row for row in read_lines(log)}
    waiting = [trial for trial in trials if trial.key not in rows]

    def keep(row: Row) -> None:
        append_line(log, row)
        rows[row["key"]] = row
        on_row(row)

    if waiting:
        with process_pool(workers or 1) if ray is None else ray_pool(ray, workers) as pool:
            work_through(pool, work, waiting, keep, say)
    return [rows[trial.key] for trial in trials]
