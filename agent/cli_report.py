"""`affordagent report`: the page of a run, or of evaluations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the parser's `commands`."""
    report = commands.add_parser(
        "report",
        help="make report.html of a run, of an evaluation, of a folder of either, or of evaluations side by side",
        description="Of a run folder: its report.html anew. Of evaluations, or of a folder that holds run folders: one "
        "self-contained report.html, and report.json with the same figures.",
        epilog="see docs/reports.md",
    )
    report.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folder of a run, an evaluation, or several")
    report.add_argument("--out", type=Path, metavar="DIR", help="where to write (default RUNS; needed for several)")
    report.set_defaults(handler=_report)


def _report(args: argparse.Namespace) -> int:
    from affordagent.core.errors import AffordAgentError
    from affordagent.evaluations.reporting.page import write_evaluation_report
    from affordagent.evaluations.reporting.sources import is_evaluation, is_run

    folder, *others = args.runs
    if not others and is_run(folder) and not is_evaluation(folder):
        from affordagent.agent.report import write_report

        if args.out is not None:
            raise AffordAgentError("--out is for evaluations: the report of a run lies in its folder")
        print(write_report(folder))
        return 0
    for path in write_evaluation_report(args.runs, args.out):
        print(path)
    return 0
