"""The MCP server on stdin and stdout, or over streamable HTTP, until its client is gone or it is asked to stop."""

from __future__ import annotations

import hmac
import os
import signal
import sys
import threading
from types import FrameType

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from affordagent.agent.commanded_cell import CommandedCell
from affordagent.agent.mcp_server import build_server
from affordagent.agent.results import EXIT_STOPPED
from affordagent.agent.serve_vlm import bound_socket, checked_token, run_app
from affordagent.agent.stopping import SIGNALS
from affordagent.tools.vlm_client import is_loopback

TOKEN_VARIABLE = "AFFORDAGENT_MCP_TOKEN"
PATH = "/mcp"


def serve_stdio(cell: CommandedCell) -> None:
    """Serve the process that started this one. When it closes the pipe, or a signal comes, the arm is stopped."""

    def end(number: int, frame: FrameType | None) -> None:
        _stop_now(cell)
        raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, end)
    try:
        with cell:
            build_server(cell).run("stdio")
    except KeyboardInterrupt:
        print("affordagent: stopped", file=sys.stderr, flush=True)
        os._exit(EXIT_STOPPED)  # a thread still reads stdin, and the interpreter would wait for it at its end


def _stop_now(cell: CommandedCell) -> None:
    """From a signal's handler, which may have interrupted whoever holds the cell's lock."""
    threading.Thread(target=cell.stop).start()


def serve_http(cell: CommandedCell, host: str, port: int, token: str | None) -> None:
    """Serve over HTTP until SIGINT or SIGTERM.

    token: default from the environment variable AFFORDAGENT_MCP_TOKEN. port 0: one that is free.

    Raises:
        AffordAgentError: another address than loopback without a token, or the port is taken.
    """
    token = checked_token(token or os.environ.get(TOKEN_VARIABLE), host, TOKEN_VARIABLE)
    with bound_socket(host, port) as listener, cell:
        app = http_app(cell, host, token)
        listener.listen()
        shown = f"[{host}]" if ":" in host else host
        print(f"MCP on http://{shown}:{listener.getsockname()[1]}{PATH}; Ctrl-C stops", flush=True)
        run_app(app, listener, access_log=False, on_signal=lambda: _stop_now(cell))


def http_app(cell: CommandedCell, host: str, token: str | None) -> ASGIApp:
    """The application. Without a token a web page must not reach it through a name that it points here (DNS
    rebinding): hosts and origins are checked then."""
    names = ("127.0.0.1", "localhost", "[::1]", host)
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=is_loopback(host),
        allowed_hosts=[f"{name}:*" for name in names],
        allowed_origins=[f"http://{name}:*" for name in names],
    )
    app = build_server(cell).streamable_http_app(streamable_http_path=PATH, host=host, transport_security=security)
    return app if token is None else with_token(app, token)


def with_token(app: ASGIApp, token: str) -> ASGIApp:
    """`app` for those who send `Authorization: Bearer TOKEN`; others get a 401."""
    wanted = f"Bearer {token}".encode()

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, wanted):
                message = "the token is missing or wrong: send the header `Authorization: Bearer TOKEN`"
                error = JSONResponse({"error": {"code": "unauthorized", "message": message}}, 401)
                return await error(scope, receive, send)
        return await app(scope, receive, send)

    return checked
