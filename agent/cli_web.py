"""`affordagent web`: talk to the robot on a page, and see what it sees and means."""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import Any

from affordagent.agent.cli_chat import add_flags, talk_settings

TOKEN_VARIABLE = "AFFORDAGENT_WEB_TOKEN"
CONNECTIONS = 1000  # a browser keeps several open; STOP must not be sent away
EPILOG = """
One browser commands, the others watch; everybody can press STOP. Ctrl-C stops the arm and ends the page. docs/web.md
has more.
"""


def add(commands: Any) -> None:
    web = commands.add_parser("web", help="talk to the robot on a web page", epilog=EPILOG)
    add_flags(web)
    web.add_argument("--host", default="127.0.0.1", help="address to serve on (default: this machine only)")
    web.add_argument("--port", type=int, default=7860, help="default 7860; 0: any that is free")
    web.add_argument("--token", help=f"needed for other addresses than loopback; or {TOKEN_VARIABLE}")
    web.set_defaults(handler=_web)


def _web(args: argparse.Namespace) -> int:
    from affordagent.agent.serve_vlm import bound_socket, checked_token, run_app
    from affordagent.agent.session import Session
    from affordagent.agent.web.app import create_app
    from affordagent.agent.web.hub import Hub

    settings = talk_settings(args)
    token = checked_token(args.token or os.environ.get(TOKEN_VARIABLE), args.host, TOKEN_VARIABLE)
    with bound_socket(args.host, args.port) as listener:
        print("loading ...", flush=True)
        with Hub(partial(Session, settings, record=True), args.runs, args.talk) as hub:
            app = create_app(hub, token, args.host)
            listener.listen()
            shown = f"[{args.host}]" if ":" in args.host else args.host
            link = f"http://{shown}:{listener.getsockname()[1]}/" + (f"?token={token}" if token else "")
            print(f"{hub.session.cell.name} on {link}; Ctrl-C stops", flush=True)
            run_app(app, listener, access_log=False, on_signal=hub.stop, connections=CONNECTIONS)
    return 0
