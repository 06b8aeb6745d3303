"""`affordagent eval styles|objects|depth|commands`: suites of trials in the simulated cell."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from affordagent.evaluations.runner.suites import Asked

SAY_EVERY_S = 60.0  # where the output is no terminal
LOCAL_CLUSTER = "local"


@dataclass(frozen=True)
class Described:
    """A suite for the command line. rounds: of a whole run, and what one is. own: options that not every suite has."""

    text: str
    rounds: int
    round_is: str
    own: tuple[str, ...]


SUITES = {
    "styles": Described(
        "template against hard instructions: the same scenes and targets", 200, "scenes", ("styles", "scene")
    ),
    "objects": Described(
        "things of seen and unseen categories, each in many scenes", 20, "attempts a thing", ("styles", "things")
    ),
    "depth": Described("handles of 1 cm under noise of the depth of up to 2 cm", 60, "scenes", ("styles", "sigmas")),
    "commands": Described("natural commands, in scenes that hold what they mean", 1, "scenes a command", ("scene",)),
}


def add(evaluations: Any) -> None:
    """Add the suites to the parser's `eval` commands."""
    for name, of in SUITES.items():
        suite = evaluations.add_parser(
            name,
            help=of.text,
            description=f"{of.text.capitalize()}. About 3 CPU-s a trial. The same command goes on where it was.",
            epilog="see docs/evaluation_suites.md",
        )
        if name == "commands":
            suite.add_argument("commands", type=Path, metavar="FILE", help="docs/commands.md; or dev, test: shipped")
        suite.add_argument(
            "--rounds", type=int, default=of.rounds, metavar="N", help=f"{of.round_is} (default {of.rounds})"
        )
        suite.add_argument(
            "--first-seed", type=int, default=0, metavar="N", help="of the scenes (default 0; below 1000: development)"
        )
        suite.add_argument("--repeats", type=int, default=1, metavar="N", help="of each trial, other noise (default 1)")
        suite.add_argument("--limit", type=int, metavar="N", help="only the first N trials")
        _add_own(suite, name, of.own)
        suite.add_argument("--masks", choices=("model", "truth"), default="model", help="truth: words and masks given")
        suite.add_argument("--noise", action="store_true", help="RealSense-like noise of the camera")
        suite.add_argument(
            "--setting",
            action="append",
            default=[],
            metavar="NAME:KEY=VALUE,...",
            help="run everything with these settings too, for a paired comparison (alone:fallback=none)",
        )
        suite.add_argument("--attribute", action="store_true", help="then find out who is to blame for each failure")
        said = "share of the successes that are attributed too (default 0.1)"
        suite.add_argument("--of-successes", type=float, default=0.1, metavar="SHARE", help=said)
        suite.add_argument("--workers", type=int, metavar="N", help="processes (default 1), or Ray's tasks at once")
        suite.add_argument(
            "--ray",
            nargs="?",
            const=LOCAL_CLUSTER,
            metavar="ADDRESS",
            help="on a Ray cluster, by default a new one",
        )
        suite.add_argument("--out", type=Path, required=True, metavar="DIR", help="rows, table and all run folders")
        suite.add_argument("--anew", action="store_true", help="move what DIR holds aside and begin again")
        suite.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
        suite.set_defaults(handler=_run, suite=name)


def _add_own(suite: argparse.ArgumentParser, name: str, own: tuple[str, ...]) -> None:
    if "styles" in own:
        chosen = ["template", "hard"] if name == "styles" else ["template"]
        styles, said = ("template", "easy", "hard"), f"of the words (default {' '.join(chosen)})"
        suite.add_argument("--styles", nargs="+", choices=styles, default=chosen, help=said)
    if "scene" in own:
        scenes = ["mixed"] if name == "styles" else ["mixed", "novel"]
        said = f"see `affordagent scenes` (default {' '.join(scenes)})"
        suite.add_argument("--scene", nargs="+", metavar="NAME", default=scenes, help=said)
    if "things" in own:
        suite.add_argument("--things", type=int, default=20, metavar="N", help="categories, half unseen (default 20)")
    if "sigmas" in own:
        default = (0.0, 2.5, 5.0, 10.0, 20.0)
        said = "noise of the depth, mm (default 0 2.5 5 10 20)"
        suite.add_argument("--sigmas", nargs="+", type=float, default=default, metavar="MM", help=said)


def _run(args: argparse.Namespace) -> int:
    from affordagent.core.jsonl import read_lines
    from affordagent.core.run_store import write_json
    from affordagent.evaluations.runner.records import ATTRIBUTIONS, TRIALS
    from affordagent.evaluations.runner.run import Evaluation, attribute_all, evaluate, to_attribute
    from affordagent.evaluations.runner.suites import SUITES
    from affordagent.evaluations.runner.summary import blame, summarise

    asked = _asked(args)
    trials = list(SUITES[args.suite](asked))[: args.limit]
    if not trials:
        raise AffordAgentError("nothing to run: ask for at least one round")
    evaluation = Evaluation(args.suite, asked.as_json(), asked.changes, trials)
    there = 0 if args.anew else len(read_lines(args.out / TRIALS))
    with progress(args.suite, len(trials), there) as (on_row, say):
        rows = evaluate(evaluation, args.out, args.workers, args.ray, args.anew, on_row, say)
    result = {"suite": args.suite, "out": str(args.out), **summarise(rows)}
    if args.attribute:
        total, there = len(to_attribute(rows, args.of_successes)), len(read_lines(args.out / ATTRIBUTIONS))
        with progress("attributions", total, there) as (on_row, say):
            found = attribute_all(args.out, args.of_successes, args.workers, args.ray, on_row, say)
        result["blame"] = blame(found)
    write_json(args.out / "summary.json", result)
    if args.json:
        print(json.dumps(result))
    else:
        _print(result)
    return 0


def _asked(args: argparse.Namespace) -> Asked:
    from affordagent.evaluations.runner.suites import Asked

    if not 0 <= args.of_successes <= 1:
        raise AffordAgentError(f"--of-successes {args.of_successes}: a share is from 0 to 1")
    if min(args.rounds, args.repeats) < 1 or args.first_seed < 0 or (args.workers or 1) < 1:
        raise AffordAgentError("--rounds, --repeats and --workers are at least 1, --first-seed at least 0")
    given = vars(args)
    own: dict[str, Any] = {}
    if "styles" in given:
        own["styles"] = tuple(args.styles)
    if "scene" in given:
        own["scenes"] = tuple(args.scene)
    if "things" in given:
        own["things"] = args.things
    if "sigmas" in given:
        own["sigmas_m"] = tuple(round(sigma / 1e3, 6) for sigma in args.sigmas)
    if "commands" in given:
        own["commands"] = args.commands
    return Asked(
        rounds=args.rounds,
        first_seed=args.first_seed,
        repeats=args.repeats,
        masks=args.masks,
        noise=args.noise,
        changes={"default": {}, **dict(map(read_setting, args.setting))},
        **own,
    )


def read_setting(text: str) -> tuple[str, dict[str, Any]]:
    """Name and changes of "NAME:KEY=VALUE,..."; keys may have dots ("limits.approach_speed_m_s=0.1").

    Raises:
        AffordAgentError: it has another form, or no settings can be so.
    """
    from affordagent.agent.settings import Settings

    name, colon, listed = text.partition(":")
    pairs = [pair.partition("=") for pair in re.split(r",(?=[a-z_0-9.]+=)", listed)]
    if not (colon and re.fullmatch(r"[\w .+-]+", name) and all(equals for _, equals, _ in pairs)):
        raise AffordAgentError(f"--setting {text!r}: write NAME:KEY=VALUE,..., such as alone:fallback=none")
    changes: dict[str, Any] = {}
    for key, _, value in pairs:
        *path, last = key.strip().split(".")
        inner = changes
        for step in path:
            inner = inner.setdefault(step, {})
        inner[last] = _value(value)
    Settings.of(changes)
    return name, changes


def _value(text: str) -> Any:
    """A number, true, false; everything else is a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextmanager
def progress(what: str, total: int, there: int) -> Iterator[tuple[Callable[[Any], None], Callable[[str], None]]]:
    """`on_row` and `say` of an evaluation: a bar with the time left, or a line a minute where there is no terminal.

    there: how many of the total have been done before.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    there = min(there, total)
    start = said = time.monotonic()
    with Progress(*columns, TimeRemainingColumn(), console=console, speed_estimate_period=600) as bars:
        bar = bars.add_task(what, total=total, completed=there)
        done = there

        def on_row(row: Any) -> None:
            nonlocal done, said
            done += 1
            bars.update(bar, completed=done)
            now = time.monotonic()
            if not console.is_terminal and now - said > SAY_EVERY_S:
                said, left_s = now, (now - start) / (done - there) * (total - done)
                print(f"{what}: {done} of {total}, {left_s / 60:.0f} min left", file=sys.stderr, flush=True)

        yield on_row, console.print


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['suite']}: success, Wilson 95 % intervals", title_justify="left")
    for name in ("", "success", "", "95 %"):
        table.add_column(name, justify="right" if name else "left")
    lines = {"all": result["success"]}
    lines |= {f"{name} {level}": found for name, levels in result["by"].items() for level, found in levels.items()}
    for name, found in lines.items():
        low, high = found["wilson95"]
        table.add_row(name, f"{found['k']}/{found['n']}", f"{found['rate']:.3f}", f"{low:.3f} to {high:.3f}")
    console = Console()
    console.print(table)
    for pair in result["pairs"]:
        names, only = (pair["first"], pair["second"]), (pair["only_first"], pair["only_second"])
        split = ", ".join(f"{count} only with {name}" for name, count in zip(names, only, strict=True))
        console.print(f"{' against '.join(names)}: of {pair['pairs']} pairs {split}; p = {pair['mcnemar_p']}")
    for failure, count in result["failures"].items():
        console.print(f"{count:4d}  {failure}")
    if "blame" in result:
        console.print(", ".join(f"{cause} {count}" for cause, count in result["blame"]["causal"].items()), style="bold")
    console.print(f"a trial: {result['cpu_s_a_trial']['mean']} CPU-s (mean); more: affordagent report {result['out']}")
