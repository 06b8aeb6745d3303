"""python -m affordagent.evaluations.tasks: see `run`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from affordagent.evaluations.tasks.run import run, summarise, trials_of
from affordagent.evaluations.tasks.table import TASKS, WAYS


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m affordagent.evaluations.tasks", description="RLBench-like tasks")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS), metavar="TASK")
    parser.add_argument("--ways", nargs="+", default=["default"], choices=list(WAYS), metavar="WAY", help="of sliding")
    parser.add_argument("--first-seed", type=int, default=0, help="below 1000: development; reports begin at 1600")
    parser.add_argument("--trials", type=int, default=20, help="seeds a task")
    parser.add_argument("--noise", action="store_true", help="depth noise and holes of a RealSense")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    trials = trials_of(args.tasks, args.ways, range(args.first_seed, args.first_seed + args.trials), args.noise)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("tasks", total=len(trials))
        rows = run(args.out, trials, args.workers, lambda row: progress.advance(bar))
    print(json.dumps(summarise(rows), indent=1))


if __name__ == "__main__":
    main()
