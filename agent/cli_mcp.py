"""`affordagent mcp`: the cell for other agents, over the Model Context Protocol."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

from affordagent.agent.cli_chat import add_flags, talk_settings
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
    add_flags(mcp)
    mcp.add_argument("--http", action="store_true", help="streamable HTTP instead of stdin and stdout")
    mcp.add_argument("--host", default="127.0.0.1", help="address to serve on (default %(default)s: this machine)")
    mcp.add_argument("--port", type=int, default=8766, help="port (default %(default)s), 0 for a free one")
    mcp.add_argument("--token", help="what clients must send; default: the variable AFFORDAGENT_MCP_TOKEN")
    mcp.set_defaults(handler=_mcp)


def _mcp(args: argparse.Namespace) -> int:
    check_mcp()
    from affordagent.agent.commanded_cell import CommandedCell
    from affordagent.agent.serve_mcp import serve_http, serve_stdio

    cell = CommandedCell(talk_settings(args), args.runs, talk=args.talk)
    if args.http:
        serve_http(cell, args.host, args.port, args.token)
    else:
        serve_stdio(cell)
    return 0


def check_mcp() -> None:
    """Raises:
    AffordAgentError: the extra is missing.
    """
    if importlib.util.find_spec("mcp") is None:
        raise AffordAgentError("the MCP server needs the package mcp: pip install 'affordagent[mcp]'")
