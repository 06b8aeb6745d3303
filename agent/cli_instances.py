"""`affordagent eval instances`: known and unseen things, each in ten scenes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(evaluations: Any) -> None:
    """Add the command to the parser's `eval` commands."""
    command = evaluations.add_parser(
        "instances",
        help="strict success of grasps on 20 known and 20 unseen things, masks from the truth",
        description="Each thing is the target in ten scenes with five others; its true mask takes the place of "
        "language and grounding. About 2.5 CPU-seconds an episode, 400 episodes.",
        epilog="see docs/evaluation.md",
    )
    command.add_argument(
        "--noise", choices=("off", "on", "both"), default="off", help="of the simulated depth camera (default off)"
    )
    command.add_argument("--first-seed", type=int, metavar="N", help="of the scenes (default 1000; below: development)")
    command.add_argument("--poses", type=int, metavar="N", help="scenes a thing (default 10)")
    command.add_argument("--groups", nargs="+", metavar="GROUP", help="known, 'unseen shape', 'unseen category' (all)")
    command.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="trials and summary; a rerun goes on")
    command.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    command.set_defaults(handler=_instances)


def _instances(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from affordagent.agent.results import versions
    from affordagent.core.errors import AffordAgentError
    from affordagent.core.run_store import write_json
    from affordagent.evaluations.instances import GROUPS, POSES, REPORT_SEED, run, summarise, trials

    first_seed = REPORT_SEED if args.first_seed is None else args.first_seed
    poses = POSES if args.poses is None else args.poses
    groups = [group for group in GROUPS if args.groups is None or group in args.groups]
    if len(groups) != len(args.groups or GROUPS):
        raise AffordAgentError(f"--groups {args.groups}: there are {', '.join(map(repr, GROUPS))}")
    if poses < 1 or first_seed < 0:
        raise AffordAgentError(f"--poses {poses} --first-seed {first_seed}: at least 1 pose, and no negative seed")
    noise = {"off": (False,), "on": (True,), "both": (False, True)}[args.noise]
    chosen = trials(first_seed, poses, noise, groups)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(f"{len(chosen)} episodes", total=len(chosen))

        def on_row(row: dict[str, Any]) -> None:
            progress.advance(bar)
            if not row["success"]:
                progress.console.print(f"{row['key']}: {row['stage']} {row['code']}")

        rows = run(chosen, args.out / "trials.jsonl", args.workers, on_row)
    settings = {"first_seed": first_seed, "poses": poses, "noise": args.noise, "groups": groups}
    result = {**settings, "versions": versions(), **summarise(rows)}
    write_json(args.out / "summary.json", result)
    if args.json:
        print(json.dumps(result))
    else:
        _print(result)
    return 0


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="strict success, Wilson 95 % intervals", title_justify="left")
    for name in ("depth", "things", "success", "95 %", "goal"):
        table.add_column(name, justify="left" if name in ("depth", "things") else "right")
    for depth in ("clean", "noisy"):
        figures = result.get(depth, {})
        lines = {name: figures[name] for name in ("known", "unseen") if name in figures} | figures.get("by_group", {})
        for name, figure in lines.items():
            low, high = figure["wilson95"]
            shown = f"{figure['k']}/{figure['n']} = {figure['rate']:.3f}"
            goal = f"{figure['goal']:.2f}" if "goal" in figure else ""
            table.add_row(depth, name, shown, f"{low:.3f} to {high:.3f}", goal)
    console = Console()
    console.print(table)
    for failure, count in result["failures"].items():
        console.print(f"{count:4d}  {failure}")
    cpu_s = result["cpu_s_an_episode"]
    console.print(f"an episode: {cpu_s['median']} CPU-s (median), {cpu_s['p90']} (90th percentile)")
