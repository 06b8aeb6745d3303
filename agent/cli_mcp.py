"""`affordagent mcp`: the cell for other agents, over the Model Context Protocol."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError

EPILOG = "see docs/mcp.md for what a client is told, and for how it is told of this server"


def add(commands: Any) -> None:
    """Add the command to the parser's `commands`."""
    mcp = commands.add_parser(
        "mcp",
        help="let other agents command the cell: an MCP server",
        description="Tools look, find, plan, grasp and stop over one open cell: on stdin and stdout, or over HTTP.",
        epilog=EPILOG,
    )
    mcp.add_argument("--cell", help="sim (default), frame:PREFIX or ur5:HOST")
    mcp.add_argument("--scene", help="of the simulated cell, see `affordagent scenes`")
    mcp.add_argument("--seed", type=int, help="of the simulated scene (default 0)")
    mcp.add_argument("--noise", action="store_true", default=None, help="depth noise and holes in the simulated camera")
    mcp.add_argument("--language", help="offline (default), or URL,MODEL of an OpenAI-compatible server")
    mcp.add_argument("--confirm", action="store_true", default=None, help="a person confirms simulated motions too")
    mcp.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the runs (default runs)")
    mcp.add_argument("--settings", type=Path, help="TOML settings file (default: ./affordagent.toml if there)")
    mcp.add_argument("--http", action="store_true", help="streamable HTTP instead of stdin and stdout")
    mcp.add_argument("--host", default="127.0.0.1", help="address to serve on (default %(default)s: this machine)")
    mcp.add_argument("--port", type=int, default=8766, help="port (default %(default)s), 0 for a free one")
    mcp.add_argument("--token", help="what clients must send; default: the variable AFFORDAGENT_MCP_TOKEN")
    mcp.set_defaults(handler=_mcp)


def _mcp(args: argparse.Namespace) -> int:
    import sys

    from affordagent.agent.settings import Settings
    from affordagent.agent.tracing import check_tracing, leaves_the_machine

    check_mcp()
    from affordagent.agent.commanded_cell import CommandedCell
    from affordagent.agent.serve_mcp import serve_http, serve_stdio

    names = ("cell", "scene", "seed", "noise", "language", "confirm")
    settings = Settings.load(args.settings, **{name: getattr(args, name) for name in names})
    check_tracing(settings)
    for line in leaves_the_machine(settings):
        print(line, file=sys.stderr)
    cell = CommandedCell(settings, args.runs)
    if args.http:
        serve_http(cell, args.host, args.port, args.token)
    else:
        serve_stdio(cell)
    return 0


def check_mcp() -> None:
    """Raises:
    AffordAgentError: the extra is missing.
    """
    import importlib.util

    if importlib.util.find_spec("mcp") is None:
        raise AffordAgentError("the MCP server needs the package mcp: pip install 'affordagent[mcp]'")
