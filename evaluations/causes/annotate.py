"""The page on which a person paints the right mask of a run and says what came of it: `GET /`, and `POST /api/runs`,
`/api/run`, `/api/mask`, `/api/say` behind it.

Errors are `{"error": {"code", "message"}}`, as the model's server gives them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
import json
import threading
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from PIL import Image
from pydantic import BaseModel, Field

from affordagent.agent.vlm_requests import Limits, Refusal, parsed_body, tell_errors
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore
from affordagent.evaluations.causes.annotation import (
    OBJECT,
    PART,
    TRUE_MASK,
    Annotation,
    labels_of,
    read_annotation,
    read_true_mask,
    write_annotation,
    write_true_mask,
)
from affordagent.evaluations.commands.page import HEADERS

LIMITS = Limits(body_bytes=4_000_000, body_s=30.0)


class RunRequest(BaseModel):
    run: str = Field(max_length=500)


class MaskRequest(RunRequest):
    """png: base64, see `annotation.labels_of`."""

    png: str


class SayRequest(RunRequest):
    said: Annotation


def create_app(runs: Mapping[str, Path], token: str | None) -> FastAPI:
    """The application over runs by their names; no other folder can be read or written. token: what requests must
    carry; the page's link holds it (`/#TOKEN`). None lets everybody in, which is for loopback only."""
    app = FastAPI(title="affordagent annotate", docs_url=None, redoc_url=None, openapi_url=None)
    page = files("affordagent.evaluations").joinpath("causes/annotate.html").read_text(encoding="utf-8")
    writing = threading.Lock()

    def authorised(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise Refusal(401, "unauthorized", "this link is not complete: open it as it was printed")

    def folder_of(asked: RunRequest) -> Path:
        if asked.run not in runs:
            raise Refusal(404, "no_such_run", f"there is no run {asked.run!r}: reload the page")
        return runs[asked.run]

    guarded = [Depends(authorised)]

    @app.get("/")
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers=HEADERS)

    @app.post("/api/runs", dependencies=guarded)
    async def listed() -> list[dict[str, Any]]:
        return await run_in_threadpool(lambda: [_listed(name, folder) for name, folder in runs.items()])

    @app.post("/api/run", dependencies=guarded)
    async def one(request: Request) -> dict[str, Any]:
        folder = folder_of(await parsed_body(request, RunRequest, LIMITS))
        return await run_in_threadpool(_shown, folder)

    @app.post("/api/mask", dependencies=guarded)
    async def mask(request: Request) -> dict[str, int]:
        asked = await parsed_body(request, MaskRequest, LIMITS)
        folder = folder_of(asked)

        def keep() -> dict[str, int]:
            labels = labels_of(_bytes(asked.png))
            with writing:
                write_true_mask(folder, labels)
            return {"object": int((labels > 0).sum()), "part": int((labels == PART).sum())}

        return await run_in_threadpool(keep)

    @app.post("/api/say", dependencies=guarded)
    async def say(request: Request) -> dict[str, bool]:
        asked = await parsed_body(request, SayRequest, LIMITS)
        folder = folder_of(asked)

        def keep() -> dict[str, bool]:
            with writing:
                write_annotation(folder, asked.said)
            return {"kept": True}

        return await run_in_threadpool(keep)

    tell_errors(app)
    return app


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AffordAgentError(f"the mask is not base64: {error}") from error


def _listed(name: str, folder: Path) -> dict[str, Any]:
    """What the list shows of a run."""
    said = read_annotation(folder)
    run = _run(folder)
    return {
        "run": name,
        "outcome": run.get("outcome"),
        "said": said is not None and said.outcome is not None,
        "painted": (folder / TRUE_MASK).is_file(),
    }


def _shown(folder: Path) -> dict[str, Any]:
    """Pictures as data URLs: before, after (None without one); labels of the run's own mask, of the painted one, and of
    the things on the table, whose pixels hold their number from 1, 0 = none."""
    store, run = RunStore(folder), _run(folder)
    frame = store.get("frame")
    own = painted = things = None
    if store.has("part_mask"):
        part = store.get("part_mask")
        own = _labels(part.object_mask | part.mask, part.mask)
    if (true := read_true_mask(folder)) is not None:
        painted = _labels(*true)
    if store.has("table"):
        numbers = np.zeros(frame.depth_m.shape, np.uint8)
        for number, proposal in enumerate(store.get("table").proposals[:255], 1):
            numbers[proposal.mask] = number
        things = _url(numbers, "PNG")
    query = store.get("query") if store.has("query") else None
    said = read_annotation(folder)
    return {
        "command": run.get("command") or (query.text if query else ""),
        "thing": (query.category or query.object_words or "") if query else "",
        "part": (query.part or "") if query else "",
        "outcome": run.get("outcome"),
        "failure": run.get("failure"),
        "width": frame.camera.width,
        "height": frame.camera.height,
        "before": _url(frame.color, "JPEG"),
        "after": _url(store.get("after").color, "JPEG") if store.has("after") else None,
        "own": own,
        "painted": painted,
        "things": things,
        "said": None if said is None else said.model_dump(),
    }


def _run(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _labels(whole: np.ndarray[Any, Any], part: np.ndarray[Any, Any]) -> str:
    labels = np.zeros(whole.shape, np.uint8)
    labels[whole], labels[part] = OBJECT, PART
    return _url(labels, "PNG")


def _url(pixels: np.ndarray[Any, Any], kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
