"""`affordagent rerun`: a Rerun recording of runs that have none."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the parser's `commands`."""
    rerun = commands.add_parser(
        "rerun",
        help="write trace.rrd, a Rerun recording, of a run folder",
        description="From what the run folder holds: a run that ended half-way gives what there was. The viewer of the "
        "package rerun-sdk shows it: `rerun RUN_DIR/trace.rrd`.",
        epilog="see docs/tracing.md",
    )
    rerun.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="folder of a run")
    rerun.set_defaults(handler=_rerun)


def _rerun(args: argparse.Namespace) -> int:
    from affordagent.agent.rerun_trace import write_trace

    for folder in args.runs:
        print(write_trace(folder))
    return 0
