"""The page's server in this process, over an open hub, for tests in a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from affordagent.agent.serve_vlm import bound_socket
from affordagent.agent.web.app import create_app
from affordagent.agent.web.hub import Hub

CHROMIUM = Path("/usr/bin/chromium")
START_S = 60.0


@contextmanager
def served(hub: Hub, token: str | None = None) -> Iterator[str]:
    """The page's address, http://127.0.0.1:PORT, until the block ends."""
    app = create_app(hub, token, "127.0.0.1")
    with bound_socket("127.0.0.1", 0) as listener:
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(START_S)


@contextmanager
def browser() -> Iterator[object]:
    """Debian's Chromium; the test is skipped where it is not there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    if not CHROMIUM.is_file():
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield chromium
        finally:
            chromium.close()
