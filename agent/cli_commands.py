"""`affordagent commands`: natural commands checked, imported, collected, labelled, counted."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from affordagent.evaluations.commands.command import Command

SHOWN_REJECTED = 20
FILE_HELP = "JSONL, or dev or test for the shipped sets"


def add(commands: Any) -> None:
    """Add the commands to the parser's `commands`."""
    group = commands.add_parser(
        "commands",
        help="natural commands to evaluate on: check, import, collect, label, stats, understand",
        epilog="see docs/commands.md",
    ).add_subparsers(dest="deed", required=True, metavar="DEED")
    _add_check(group)
    _add_import(group)
    _add_collect(group)
    _add_label(group)
    _add_stats(group)
    _add_understand(group)


def _add_check(group: Any) -> None:
    check = group.add_parser("check", help="read a file, and say which texts are not fit to be evaluated on")
    check.add_argument("file", type=Path, help=FILE_HELP)
    check.add_argument("--example", action="append", default=[], metavar="TEXT", help="that writers were shown")
    check.add_argument("--clean", type=Path, metavar="FILE", help="write the fit ones there")
    check.add_argument("--rejected", type=Path, metavar="FILE", help="write the others there, with their reasons")
    check.set_defaults(handler=_check)


def _add_import(group: Any) -> None:
    given = group.add_parser("import", help="commands from a crowd platform's CSV, with quality checks")
    given.add_argument("csv", type=Path)
    given.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSONL; the rejected rows go beside it")
    given.add_argument("--platform", default="mturk", help="mturk (default) or prolific: how the columns are called")
    given.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="FIELD=HEADER",
        help="another header (text, gold, writer, part, colour, scene, group, language, absent, notes, example)",
    )
    given.add_argument("--salt", type=Path, required=True, metavar="FILE", help="of the writers' ids; made if missing")
    given.add_argument("--language", default="en", help="of rows without one (default en)")
    given.add_argument("--example", action="append", default=[], metavar="TEXT", help="that writers were shown")
    given.add_argument("--name", default="", help="start of the ids (default: the CSV's name)")
    given.set_defaults(handler=_import)


def _add_collect(group: Any) -> None:
    collect = group.add_parser("collect", help="serve a page that shows scenes and asks what one would say")
    collect.add_argument("--scenes", default="mixed", metavar="NAME", help="see `affordagent scenes` (default mixed)")
    collect.add_argument("--seeds", default="0-19", metavar="FIRST-LAST", help="of the scenes (default 0-19)")
    collect.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSONL; answers are added to it")
    collect.add_argument("--ask", nargs="+", choices=("thing", "part", "need"), default=["thing", "part", "need"])
    collect.add_argument("--host", default="127.0.0.1", help="address to serve on (default: this machine only)")
    collect.add_argument("--port", type=int, default=8770, help="default 8770; 0: any that is free")
    collect.add_argument("--token", help="needed for other addresses than loopback; part of the link for writers")
    collect.set_defaults(handler=_collect)


def _add_label(group: Any) -> None:
    label = group.add_parser("label", help="say what each command means, without seeing its gold")
    label.add_argument("file", type=Path, help=FILE_HELP)
    label.add_argument("--labels", type=Path, required=True, metavar="FILE", help="JSONL; goes on where it was")
    label.add_argument("--labeller", required=True, metavar="ID", help="anonymous: a, b, ...")
    label.add_argument("--seed", type=int, default=0, help="of the order (default 0)")
    label.set_defaults(handler=_label)


def _add_stats(group: Any) -> None:
    stats = group.add_parser("stats", help="how many, how varied, how far from the training style, and how agreed")
    stats.add_argument("file", type=Path, help=FILE_HELP)
    stats.add_argument("--labels", type=Path, metavar="FILE", help="of `affordagent commands label`, all labellers")
    stats.add_argument("--json", action="store_true", help="print one JSON object")
    stats.set_defaults(handler=_stats)


def _add_understand(group: Any) -> None:
    understand = group.add_parser("understand", help="how well the offline language understands them: no scene")
    understand.add_argument("file", type=Path, help=FILE_HELP)
    understand.add_argument("--json", action="store_true", help="print one JSON object")
    understand.set_defaults(handler=_understand)


def _check(args: argparse.Namespace) -> int:
    from affordagent.evaluations.commands.command import read_commands, write_commands
    from affordagent.evaluations.commands.importing import write_rejected
    from affordagent.evaluations.commands.quality import screened

    commands = read_commands(args.file)
    taken, rejected = screened(commands, args.example)
    for row in rejected[:SHOWN_REJECTED]:
        print(f"command {row.row} {row.text[:60]!r}: {'; '.join(row.reasons)}")
    if len(rejected) > SHOWN_REJECTED:
        print(f"and {len(rejected) - SHOWN_REJECTED} more (all of them with --rejected FILE)")
    print(f"{len(taken)} of {len(commands)} commands are fit")
    if args.clean:
        write_commands(args.clean, taken)
    if args.rejected:
        write_rejected(args.rejected, rejected)
    return 1 if rejected else 0


def _import(args: argparse.Namespace) -> int:
    from affordagent.evaluations.commands.command import write_commands
    from affordagent.evaluations.commands.importing import columns_of, import_csv, read_salt, write_rejected

    if args.out.exists():
        raise AffordAgentError(f"{args.out} is there already: give another --out, or remove it")
    columns = columns_of(args.platform, args.column)
    found = import_csv(
        args.csv, columns, read_salt(args.salt), language=args.language, examples=args.example, name=args.name
    )
    write_commands(args.out, found.commands)
    beside = args.out.with_suffix(".rejected.jsonl")
    write_rejected(beside, found.rejected)
    writers = len({command.writer for command in found.commands})
    print(f"{len(found.commands)} commands of {writers} writers: {args.out}")
    print(f"{len(found.rejected)} rows rejected: {beside}")
    for reason, count in found.reasons.most_common():
        print(f"  {count:5d} {reason}")
    return 0


def _collect(args: argparse.Namespace) -> int:
    import os
    import sys

    from affordagent.agent.serve_vlm import bound_socket, checked_token, run_app
    from affordagent.evaluations.commands.collecting import Answers, make_tasks
    from affordagent.evaluations.commands.page import create_app
    from affordagent.tools.vlm_wire import TOKEN_VARIABLE

    seeds = _seeds(args.seeds)
    token = checked_token(args.token or os.environ.get(TOKEN_VARIABLE), args.host)
    answers = Answers(args.out)
    with bound_socket(args.host, args.port) as listener:
        print(f"rendering {len(seeds)} scenes ...", file=sys.stderr, flush=True)
        app = create_app(make_tasks(args.scenes, seeds, args.ask), answers, token)
        listener.listen()
        shown = f"[{args.host}]" if ":" in args.host else args.host
        link = f"http://{shown}:{listener.getsockname()[1]}/" + (f"#{token}" if token else "")
        print(f"{link}: give this link to the writers; answers go to {args.out}; Ctrl-C stops", flush=True)
        run_app(app, listener, access_log=False)  # it would hold the writers' addresses
    return 0


def _seeds(text: str) -> range:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None or int(match[2] or match[1]) < int(match[1]):
        raise AffordAgentError(f"--seeds {text!r} must be FIRST-LAST, such as 0-19, or one number")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def _label(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    import numpy as np

    from affordagent.core.jsonl import append_line
    from affordagent.evaluations.commands.agreement import Label, meaning_of, read_labels
    from affordagent.evaluations.commands.command import read_commands

    done = {label.command for label in read_labels(args.labels) if label.labeller == args.labeller}
    commands = read_commands(args.file)
    order = np.random.default_rng(args.seed).permutation(len(commands))
    waiting = [command for i in order if (command := commands[int(i)]).id not in done]
    print(
        "What should the robot take? A name (mug), several that would do (mug|bottle), none, or ? where it should ask."
    )
    print("Enter leaves a command out; q ends.")
    for number, command in enumerate(waiting, 1):
        means = ""
        print(f"\n[{number}/{len(waiting)}] {command.text}")
        while not means:
            said = _asked("> ")
            if said in ("", "q"):
                break
            try:
                means = meaning_of(said)
            except AffordAgentError as error:
                print(error)
        if means:
            append_line(args.labels, asdict(Label(command.id, args.labeller, means)))
        elif said == "q":
            break
    return 0


def _asked(prompt: str) -> str:
    """What is typed; the end of the input counts as q."""
    try:
        return input(prompt).strip().lower()
    except EOFError:
        return "q"


def _stats(args: argparse.Namespace) -> int:
    from affordagent.evaluations.commands.agreement import read_labels
    from affordagent.evaluations.commands.command import read_commands
    from affordagent.evaluations.commands.stats import as_text, stats

    commands: list[Command] = read_commands(args.file)
    found = stats(commands, read_labels(args.labels) if args.labels else [])
    print(json.dumps(found) if args.json else as_text(found))
    return 0


def _understand(args: argparse.Namespace) -> int:
    from affordagent.agent.language.understand import understand
    from affordagent.evaluations.commands.command import read_commands
    from affordagent.evaluations.commands.stats import as_text
    from affordagent.evaluations.commands.understood import understood

    found = understood(read_commands(args.file), understand)
    if args.json:
        print(json.dumps(found))
        return 0
    print(as_text(found["rates"]))
    for miss in found["misses"]:
        print(f"  {miss['text']!r}: {miss['answer']} {', '.join(miss['names'])}")
    return 0
