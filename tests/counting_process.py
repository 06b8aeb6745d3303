"""An evaluation of cheap trials in a process of its own, to be killed: `counting_process.py LOG COUNT WORKERS`."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affordagent.evaluations.trials import run_trials


@dataclass(frozen=True)
class Count:
    number: int

    @property
    def key(self) -> str:
        return f"n{self.number}"


def work(trial: Count) -> dict[str, Any]:
    time.sleep(0.05)
    return {"key": trial.key, "square": trial.number**2, "text": "x" * (50 * trial.number % 20_000), "pid": os.getpid()}


def work_or_raise(trial: Count) -> dict[str, Any]:
    if trial.number == 1:
        raise ValueError("no square of one")
    if trial.number == 13:
        os._exit(1)
    return work(trial)


if __name__ == "__main__":
    log, count, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    try:
        run_trials(
            [Count(n) for n in range(count)], log, work, workers,
            on_row=lambda row: print(row["pid"], flush=True), say=lambda line: print(line, flush=True),
        )  # fmt: skip
    except KeyboardInterrupt:
        sys.exit(130)
