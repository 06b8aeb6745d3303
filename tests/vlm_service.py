"""Servers for tests: a real uvicorn on a free loopback port, and a socket that misbehaves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from affordagent.agent.vlm_requests import Limits
from affordagent.agent.vlm_server import ServedModel, create_app
from affordagent.core.types import VlmAnswer

TINY = Path(__file__).parents[2] / "shared" / "data" / "affordancevlm_tiny"


@contextmanager
def serving(vlm: Any, token: str | None = None, limits: Limits | None = None) -> Iterator[str]:
    """The URL of a server of `vlm` that runs in a thread until the block ends."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    app = create_app(vlm, token, ServedModel("tested", "float32"), limits)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()
        assert not thread.is_alive()


@contextmanager
def dropping(drops: int, then: bytes) -> Iterator[tuple[str, list[int]]]:
    """The URL of a socket that closes `drops` connections without a word and answers `then` to later ones; and the
    list that grows by one for each connection."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    seen: list[int] = []

    def work() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            with connection:
                seen.append(len(seen))
                connection.recv(65536)
                if len(seen) > drops:
                    connection.sendall(then)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


class Faulty:
    """A model for what a real one cannot be made to do: to wait, to crash, to answer with given masks."""

    def __init__(self, logits: np.ndarray | None = None, text: str = "It is [AFF].") -> None:
        self.logits, self.text = logits, text
        self.started, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.inside = self.most_inside = self.calls = 0
        self.questions: list[str] = []

    def answer(
        self,
        image: np.ndarray,
        question: str,
        max_new_tokens: int = 512,
        use_cache: bool = True,
        *,
        prefix: bool = True,
    ) -> VlmAnswer:
        self.calls += 1
        self.questions.append(question)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.started.set()
        self.go_on.wait(60)
        self.inside -= 1
        if self.error is not None:
            raise self.error
        logits = np.zeros((0, *image.shape[:2]), np.float32) if self.logits is None else self.logits
        return VlmAnswer(self.text, np.array([1, -200, 7]), logits, {"language": 0.5})

    def teacher_forced(self, image: np.ndarray, question: str, reply: str, prefix: bool = True) -> VlmAnswer:
        return self.answer(image, question + reply)
