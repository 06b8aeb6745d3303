"""Trials that are kept one by one, so that a long evaluation may be stopped and goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

Row = dict[str, Any]


class Keyed(Protocol):
    """key: the trial's name, equal for equal trials."""

    @property
    def key(self) -> str: ...


Trial = TypeVar("Trial", bound=Keyed)


def run_trials(
    trials: Sequence[Trial],
    log: Path,
    work: Callable[[Trial], Row],
    workers: int = 1,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """The rows of all trials in their order, each with its "key".

    Rows found in `log` (JSONL) are kept; the other trials run in `workers` fresh processes, and each row is appended
    when it is there. work: picklable. on_row: called with every new row.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = log.read_text().splitlines() if log.is_file() else []
    rows = {row["key"]: row for row in map(json.loads, lines)}
    waiting = [trial for trial in trials if trial.key not in rows]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool, log.open("a") as file:
        for future in as_completed([pool.submit(work, trial) for trial in waiting]):
            row = future.result()
            rows[row["key"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            on_row(row)
    return [rows[trial.key] for trial in trials]
