"""The page's server: a few plain routes that need neither Gradio nor the robot's thread, and Gradio's page."""

from __future__ import annotations

import os
import sys
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import ASGIApp

from affordagent.agent.web.gate import Gate, seat_of
from affordagent.agent.web.hub import Hub
from affordagent.agent.web.words import work

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported: nothing is sent anywhere


def create_app(hub: Hub, token: str | None, host: str) -> ASGIApp:
    """The application over an open hub. token: see `agent.web.gate.Gate`."""
    import gradio as gr

    from affordagent.agent.web.page import build

    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(sys.maxsize)  # else each event is summed up for a page we lack
    app = FastAPI(title="affordagent", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/stop")
    async def stop() -> dict[str, bool]:
        """On the event loop itself: no thread has to be free for it."""
        hub.stop()
        return {"stopped": True}

    @app.get("/now")
    async def now(request: Request) -> dict[str, Any]:
        """What the page's script asks a few times a second: has anything changed?"""
        found = hub.now(seat_of(request.cookies) or None)
        state, words = work(found)
        return {
            "number": found.number,
            "pictures": found.pictures,
            "stops": found.stops,
            "state": state,
            "words": words,
        }

    page = build(hub)
    app = gr.mount_gradio_app(
        app,
        page.blocks,
        path="/",
        show_error=False,
        footer_links=[],
        run_history=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=page.theme,
        css=page.css,
        head=page.head,
    )
    return Gate(app, token, host)
