"""A server of the chat-completions API on loopback that answers as it is told, and keeps what it was asked."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from PIL import Image


@dataclass
class ChatService:
    """replies: one for each question, the last one again and again: text, (status, error body), or seconds to keep
    silent. usage: the tokens that each answer tells of; None: it tells of none."""

    replies: Sequence[str | tuple[int, dict[str, Any]] | float]
    key: str | None = None
    usage: dict[str, int] | None = None
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    authorization: list[str] = field(default_factory=list)

    def picture(self, i: int = 0) -> np.ndarray:
        """The picture of the i-th question, as it arrived."""
        parts = self.asked[i]["messages"][0]["content"]
        url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
        assert url.startswith("data:image/jpeg;base64,")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))))

    def prompt(self, i: int = 0) -> str:
        return next(part["text"] for part in self.asked[i]["messages"][0]["content"] if part["type"] == "text")

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models", response_model=None)
        def models(request: Request) -> Response:
            return self._refused(request) or JSONResponse({"object": "list", "data": []})

        @app.post("/v1/chat/completions", response_model=None)
        async def complete(request: Request) -> Response:
            self.authorization.append(request.headers.get("authorization", ""))
            body = json.loads(await request.body())
            reply = self.replies[min(len(self.asked), len(self.replies) - 1)]
            self.asked.append(body)
            if refused := self._refused(request):
                return refused
            if isinstance(reply, tuple):
                return JSONResponse({"error": reply[1]}, reply[0], {"retry-after": "0"})
            if isinstance(reply, float):
                time.sleep(reply)
                reply = "{}"
            message = {"role": "assistant", "content": reply}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
            return JSONResponse(answer | ({"usage": self.usage} if self.usage else {}))

        return app

    def _refused(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "")
        if self.key is None or given == f"Bearer {self.key}":
            return None
        return JSONResponse({"error": {"message": f"wrong key: {given}", "code": "invalid_api_key"}}, 401)


@contextmanager
def chatting(
    *replies: str | tuple[int, dict[str, Any]] | float, key: str | None = None, usage: dict[str, int] | None = None
) -> Iterator[ChatService]:
    """A service that runs in a thread until the block ends."""
    service = ChatService(replies, key, usage)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    service.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    server = uvicorn.Server(uvicorn.Config(service.app(), log_level="critical", timeout_graceful_shutdown=3))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive()
