"""`affordagent serve-vlm`: load a model, then answer on a socket until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from affordagent.agent.vlm_requests import Limits
from affordagent.agent.vlm_server import ServedModel, create_app
from affordagent.core.errors import AffordAgentError
from affordagent.tools.vlm import folder_of, kind_of
from affordagent.tools.vlm_client import is_loopback
from affordagent.tools.vlm_wire import TOKEN_VARIABLE, Vlm

SHORTEST_TOKEN = 16
CONNECTIONS = 64  # at once; each may hold a body
FINISH_S = 10  # for answers that are under way when the server is stopped


@dataclass(frozen=True)
class Model:
    """What to serve. checkpoint: "mini" or a folder, mini or published."""

    checkpoint: str
    vision_tower: Path | None = None
    dtype: str = "auto"
    device: str = "auto"
    load_in: Literal["8bit", "4bit"] | None = None


def serve(model: Model, host: str, port: int, token: str | None, limits: Limits) -> None:
    """Load the model and serve it; returns when the process is asked to stop.

    token: default from the environment variable AFFORDAGENT_VLM_TOKEN. port 0: one that is free.

    Raises:
        AffordAgentError: another address than loopback without a token, the port is taken, or no such model.
    """
    token = checked_token(token or os.environ.get(TOKEN_VARIABLE), host)
    with bound_socket(host, port) as listener:
        predictor, about = open_model(model)
        app = create_app(predictor, token, about, limits)
        listener.listen()
        shown = f"[{host}]" if ":" in host else host
        print(f"{about.name} ({about.dtype}) on http://{shown}:{listener.getsockname()[1]}; Ctrl-C stops", flush=True)
        run_app(app, listener)


def checked_token(token: str | None, host: str, variable: str = TOKEN_VARIABLE) -> str | None:
    """The token that requests must carry. variable: of the environment, where it may stand.

    Raises:
        AffordAgentError: none for an address that others can reach, or one that is easily guessed or cannot be sent.
    """
    if not token:
        if is_loopback(host):
            return None
        raise AffordAgentError(
            f"--host {host} can be reached by other machines: give --token or set {variable} "
            '(make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"), or leave --host out'
        )
    if len(token) < SHORTEST_TOKEN or not token.isascii() or any(c.isspace() for c in token):
        raise AffordAgentError(
            f"the token has {len(token)} characters; it must have at least {SHORTEST_TOKEN}, ASCII without blanks "
            '(make one with: python -c "import secrets; print(secrets.token_urlsafe(32))")'
        )
    return token


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket on the address, not listening yet: who connects before the model is loaded is told that nobody is there.

    Raises:
        AffordAgentError: no such address here, or the port is taken.
    """
    if not 0 <= port <= 65535:
        raise AffordAgentError(f"--port is {port}, must be 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise AffordAgentError(
            f"cannot serve on {host} port {port}: {error}; choose another --host or --port"
        ) from error
    return listener


def open_model(model: Model) -> tuple[Vlm, ServedModel]:
    """The loaded model and what /health says of it.

    Raises:
        AffordAgentError: no such model, or it does not load.
    """
    kind = kind_of(model.checkpoint)
    if kind == "server":
        raise AffordAgentError(f"--checkpoint {model.checkpoint} is a server already: give mini or a folder")
    name = "mini" if model.checkpoint == "mini" else folder_of(model.checkpoint).resolve().name
    if kind == "mini":
        from affordagent.agent.mini_vlm import MiniVlm

        return MiniVlm(folder_of(model.checkpoint)), ServedModel(name, "float32")
    from affordagent.finetune.vlm.predictor import VlmPredictor

    predictor = VlmPredictor(
        folder_of(model.checkpoint),
        model.vision_tower,
        dtype=model.dtype,
        device=model.device,
        load_in=model.load_in,
    )
    dtype = str(predictor.dtype).removeprefix("torch.")
    return predictor, ServedModel(name, f"{dtype}, {model.load_in}" if model.load_in else dtype)


def run_app(
    app: ASGIApp,
    listener: socket.socket,
    access_log: bool = True,
    on_signal: Callable[[], None] = lambda: None,
    connections: int = CONNECTIONS,
) -> None:
    """Serve until SIGINT or SIGTERM. uvicorn handles both while it runs, and raises them again when it is done: with
    handlers that do nothing the process then ends as one that was asked to. access_log: a line a request, with the
    client's address. on_signal: called at once when a signal comes, before what is under way is brought to its end.
    connections: open at once; who comes beyond them is sent away."""
    config = uvicorn.Config(
        app,
        log_level="info",
        access_log=access_log,
        limit_concurrency=connections,
        timeout_graceful_shutdown=FINISH_S,
        server_header=False,
    )

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            on_signal()
            super().handle_exit(sig, frame)

    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        Server(config).run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
