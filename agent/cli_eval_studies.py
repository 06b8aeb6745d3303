"""`affordagent eval tasks|faults|dialogue`: manipulation tasks, whether the right stage is blamed for known faults, and
questions asked against errors avoided."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(evaluations: Any) -> None:
    """Add the commands to the parser's `eval` commands."""
    tasks = evaluations.add_parser(
        "tasks",
        help="RLBench-like tasks: reach, press, slide, pick, close",
        description="Each task in as many scenes as there are rounds. The same command goes on where it was.",
        epilog="see docs/evaluation_suites.md",
    )
    tasks.add_argument("--tasks", nargs="+", metavar="TASK", help="which (default: all)")
    tasks.add_argument("--ways", nargs="+", default=["default"], metavar="WAY", help="of sliding (default: default)")
    tasks.add_argument("--rounds", type=int, default=20, metavar="N", help="seeds a task (default 20)")
    tasks.add_argument("--noise", action="store_true", help="RealSense-like noise of the camera")
    _add_common(tasks)
    tasks.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    tasks.set_defaults(handler=_tasks)

    faults = evaluations.add_parser(
        "faults",
        help="known faults injected into one stage: is that stage blamed?",
        description="In each scene one fault of each cause in turn, attributed where the trial fails. Prints JSON; DIR "
        "gets confusion.png too. The same command goes on where it was.",
        epilog="see docs/attribution.md",
    )
    faults.add_argument("--rounds", type=int, default=20, metavar="N", help="scenes (default 20)")
    _add_common(faults)
    faults.set_defaults(handler=_faults)

    dialogue = evaluations.add_parser(
        "dialogue",
        help="questions asked against errors avoided",
        description="Six commands a scene, said with and without asking back; a simulated person answers truthfully. "
        "Nothing moves. About 10 CPU-seconds a round. The same command goes on where it was.",
        epilog="see docs/talking.md",
    )
    dialogue.add_argument("--rounds", type=int, default=20, metavar="N", help="scenes of each kind (default 20)")
    _add_common(dialogue)
    dialogue.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    dialogue.set_defaults(handler=_dialogue)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--first-seed", type=int, default=0, metavar="N", help="(default 0; below 1000: development)")
    command.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="rows, summary and all else")


def _tasks(args: argparse.Namespace) -> int:
    from affordagent.agent.cli_eval_suites import progress
    from affordagent.core.jsonl import read_lines
    from affordagent.evaluations.runner.records import TRIALS
    from affordagent.evaluations.tasks.run import run, summarise, trials_of
    from affordagent.evaluations.tasks.table import TASKS

    seeds = range(args.first_seed, args.first_seed + args.rounds)
    trials = trials_of(args.tasks or list(TASKS), args.ways, seeds, args.noise)
    with progress("tasks", len(trials), len(read_lines(args.out / TRIALS))) as (on_row, _):
        rows = run(args.out, trials, args.workers, on_row)
    result = summarise(rows)
    if args.json:
        print(json.dumps(result))
        return 0
    for name, found in result.items():
        success = found["success"]
        low, high = success["wilson95"]
        failures = ", ".join(f"{count} {code}" for code, count in found["failures"].items())
        print(f"{name:<24} {success['k']}/{success['n']} ({low:.2f} to {high:.2f})  {failures}")
    return 0


def _faults(args: argparse.Namespace) -> int:
    from affordagent.evaluations.causes import confusion

    counts = ["--scenes", str(args.rounds), "--first-seed", str(args.first_seed), "--workers", str(args.workers)]
    confusion.main([*counts, "--out", str(args.out)])
    return 0


def _dialogue(args: argparse.Namespace) -> int:
    from affordagent.agent.cli_eval_suites import progress
    from affordagent.agent.results import versions
    from affordagent.core.jsonl import read_lines
    from affordagent.core.run_store import write_json
    from affordagent.evaluations.dialogue import run, summary, table, trials

    chosen, log = trials(args.first_seed, args.rounds), args.out / "trials.jsonl"
    with progress("commands", len(chosen), len(read_lines(log))) as (on_row, _):
        rows = run(chosen, log, args.workers, on_row)
    result = summary(rows) | {"first_seed": args.first_seed, "rounds": args.rounds, "versions": versions()}
    write_json(args.out / "summary.json", result)
    print(json.dumps(result) if args.json else table(result))
    return 0
