"""The page on which people say what they would say: `GET /`, and `POST /api/task`, `/api/answer` behind it.

Errors are `{"error": {"code", "message"}}`, as the model's server gives them.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from affordagent.agent.vlm_requests import Limits, Refusal, parsed_body, tell_errors
from affordagent.evaluations.commands.collecting import Answers, Task
from affordagent.evaluations.commands.command import MAX_TEXT

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class TaskRequest(BaseModel):
    """writer: as the page was given it; None = a new one is made. skipped: ids of tasks that are not wanted."""

    writer: str | None = Field(default=None, pattern=r"^p-[0-9a-f]{12}$")
    skipped: list[str] = Field(default_factory=list, max_length=2000)


class AnswerRequest(BaseModel):
    """consent: that the text may be kept and published."""

    writer: str = Field(pattern=r"^p-[0-9a-f]{12}$")
    task: str = Field(max_length=100)
    text: str = Field(min_length=1, max_length=MAX_TEXT)
    language: str = Field(default="en", pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{1,8})*$")
    consent: bool


@dataclass(frozen=True)
class PageLimits:
    """answers, requests: at most, a minute, of one writer and of one address. writers: new ones a minute, in all."""

    answers: int = 20
    requests: int = 120
    writers: int = 60
    body: Limits = Limits(body_bytes=200_000, body_s=10.0)


class Rate:
    """At most `most` of anything in a minute, by key. now: a clock in seconds."""

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most, self._now = most, now
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)

    def count(self, key: str) -> None:
        """Raises: Refusal 429 when there were too many in the last minute."""
        now = self._now()
        for other in [k for k, times in self._times.items() if not times or times[-1] < now - 60]:
            del self._times[other]
        times = self._times[key]
        while times and times[0] < now - 60:
            times.popleft()
        if len(times) >= self._most:
            wait_s = int(60 - (now - times[0])) + 1
            message = f"more than {self._most} a minute: wait {wait_s} s and send it again"
            raise Refusal(429, "too_many", message, {"Retry-After": str(wait_s)})
        times.append(now)


def create_app(tasks: Sequence[Task], answers: Answers, token: str | None, limits: PageLimits | None = None) -> FastAPI:
    """The application. token: what the page's requests must carry; the link that is given to writers holds it
    (`/#TOKEN`). None lets everybody in, which is for loopback only."""
    limits = limits or PageLimits()
    app = FastAPI(title="affordagent commands", docs_url=None, redoc_url=None, openapi_url=None)
    by_id = {task.id: task for task in tasks}
    page = files("affordagent.evaluations").joinpath("commands/collect.html").read_text(encoding="utf-8")
    requests, new_writers, said = Rate(limits.requests), Rate(limits.writers), Rate(limits.answers)

    def authorised(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise Refusal(401, "unauthorized", "this link is not complete: open it as it was given to you")
        requests.count(request.client.host if request.client else "")

    guarded = [Depends(authorised)]

    @app.get("/")
    async def show() -> HTMLResponse:
        return HTMLResponse(page.replace("{{MAX_TEXT}}", str(MAX_TEXT)), headers=HEADERS)

    @app.post("/api/task", dependencies=guarded)
    async def next_task(request: Request) -> dict[str, Any]:
        asked = await parsed_body(request, TaskRequest, limits.body)
        if asked.writer is None:
            new_writers.count("")
        writer = asked.writer or f"p-{secrets.token_hex(6)}"
        task = answers.next_task(tasks, writer, set(asked.skipped))
        return {"writer": writer, "done": answers.done(writer, tasks), "of": len(tasks), "task": _shown(task)}

    @app.post("/api/answer", dependencies=guarded)
    async def answer(request: Request) -> dict[str, str]:
        given = await parsed_body(request, AnswerRequest, limits.body)
        if not given.consent:
            raise Refusal(422, "no_consent", "tick that your sentence may be kept, or close the page")
        if given.task not in by_id:
            raise Refusal(404, "no_such_task", "this picture is not asked about any more: reload the page")
        said.count(given.writer)
        # in a thread: it waits for the disk
        kept = await run_in_threadpool(answers.add, by_id[given.task], given.writer, given.text, given.language)
        return {"id": kept}

    tell_errors(app)
    return app


def _shown(task: Task | None) -> dict[str, Any] | None:
    """What the page shows; never what the gold is."""
    if task is None:
        return None
    picture = "data:image/jpeg;base64," + base64.b64encode(task.picture).decode()
    return {"id": task.id, "asking": task.asking, "need": task.need, "picture": picture}
