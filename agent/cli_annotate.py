"""`affordagent annotate`: paint the right mask of recorded runs, and say what came of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the parser's `commands`."""
    annotate = commands.add_parser(
        "annotate",
        help="serve a page to paint the right mask of recorded runs and confirm their outcome",
        epilog="see docs/verified_outcome.md",
    )
    annotate.add_argument("runs", type=Path, metavar="RUNS", help="a run folder, or a folder that holds some")
    annotate.add_argument("--host", default="127.0.0.1", help="address to serve on (default: this machine only)")
    annotate.add_argument("--port", type=int, default=8771, help="default 8771; 0: any that is free")
    annotate.add_argument("--token", help="needed for other addresses than loopback; part of the printed link")
    annotate.set_defaults(handler=_annotate)


def _annotate(args: argparse.Namespace) -> int:
    import os

    from affordagent.agent.serve_vlm import bound_socket, checked_token, run_app
    from affordagent.evaluations.causes.annotate import create_app
    from affordagent.evaluations.causes.annotation import runs_below
    from affordagent.tools.vlm_wire import TOKEN_VARIABLE

    token = checked_token(args.token or os.environ.get(TOKEN_VARIABLE), args.host)
    runs = runs_below(args.runs)
    with bound_socket(args.host, args.port) as listener:
        app = create_app(runs, token)
        listener.listen()
        shown = f"[{args.host}]" if ":" in args.host else args.host
        link = f"http://{shown}:{listener.getsockname()[1]}/" + (f"#{token}" if token else "")
        print(f"{link}: {len(runs)} runs; what is painted goes to their folders; Ctrl-C stops", flush=True)
        run_app(app, listener, access_log=False)
    return 0
