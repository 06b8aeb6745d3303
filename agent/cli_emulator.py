"""`affordagent emulator`: a Universal Robots controller on loopback, to try the path to a real arm."""

from __future__ import annotations

import argparse
from typing import Any

from affordagent.robot.emulator.command import add_arguments


def add(commands: Any) -> None:
    """Add the command to the parser's `commands`."""
    parser = commands.add_parser(
        "emulator",
        help="a UR controller on loopback, for --cell ur5:127.0.0.1",
        description="Answers as a UR controller does, with a simulated arm and table behind it. See docs/emulator.md.",
    )
    add_arguments(parser)
    parser.set_defaults(handler=_serve)


def _serve(args: argparse.Namespace) -> int:
    from affordagent.robot.emulator.command import serve

    return serve(args)
