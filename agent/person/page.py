"""The page on which a person makes masks of rows: `GET /`, `/page.js`, and `POST /api/rows`, `/api/row`, `/api/region`,
`/api/box`, `/api/answer` behind it.

Masks travel as COCO's uncompressed run lengths: column by column, runs of 0 and 1 in turn. A row is named by its key;
no path comes from the page. Errors are `{"error": {"code", "message"}}`, as the model's server gives them.
"""

from __future__ import annotations

import base64
import hmac
import json
import threading
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import cv2
import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from affordagent.agent.person.answers import AnswerFile
from affordagent.agent.person.helping import Helper
from affordagent.agent.person.tasks import Task, start_of
from affordagent.agent.vlm_requests import Limits, Refusal, parsed_body, tell_errors
from affordagent.agent.web.masks import Click
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask
from affordagent.finetune.data.rle import decode_rle, encode_rle
from affordagent.finetune.data.table import box_of_row, load_image, load_mask
from affordagent.tools.detection import Picture
from affordagent.tools.vlm_client import is_loopback

LIMITS = Limits(body_bytes=4_000_000, body_s=30.0)
MOST_RUNS = 500_000
LONGEST_S = 86_400.0
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
Counts = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MOST_RUNS)]
Pixels = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class RowRequest(BaseModel):
    key: str = Field(pattern=r"^[0-9a-f]{24}$")


class RegionRequest(RowRequest):
    """counts: the mask so far. x, y: the pixel. add: else the region is taken away."""

    counts: Counts
    x: int = Field(ge=0, le=1_000_000)
    y: int = Field(ge=0, le=1_000_000)
    add: bool


class BoxRequest(RowRequest):
    """box: x0, y0, x1, y1 in pixels, x1, y1 past the end."""

    counts: Counts
    box: tuple[Pixels, Pixels, Pixels, Pixels]
    add: bool


class AnswerRequest(RowRequest):
    """counts: of "mask" alone. seconds: at work on it."""

    said: Literal["mask", "absent", "cannot say"]
    counts: Counts | None = None
    seconds: float = Field(ge=0, le=LONGEST_S, allow_inf_nan=False)


def create_app(tasks: Sequence[Task], kept: AnswerFile, helper: Helper, token: str | None) -> FastAPI:
    """The application over these rows alone. token: what requests must carry; the page's link holds it (`/#TOKEN`).
    None lets everybody in who comes from this machine and by its own name: for loopback only."""
    app = FastAPI(title="affordagent data person", docs_url=None, redoc_url=None, openapi_url=None)
    page, script = (
        files("affordagent.agent").joinpath(f"person/page.{kind}").read_text("utf-8") for kind in ("html", "js")
    )
    by_key = {task.key: task for task in tasks}
    writing, helping = threading.Lock(), threading.Lock()

    def authorised(request: Request) -> None:
        _check_site(request, token)

    def task_of(asked: RowRequest) -> Task:
        if asked.key not in by_key:
            raise Refusal(404, "no_such_row", f"there is no row {asked.key}: reload the page")
        return by_key[asked.key]

    guarded = [Depends(authorised)]

    @app.get("/", dependencies=guarded if token is None else [])
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers=HEADERS)

    @app.get("/page.js")
    async def code() -> Response:
        return Response(script, media_type="text/javascript", headers=HEADERS)

    @app.post("/api/rows", dependencies=guarded)
    async def listed() -> dict[str, Any]:
        rows = [
            {"key": t.key, "name": _name(t), "why": t.why, "said": a.said if (a := kept.answers.get(t.key)) else None}
            for t in tasks
        ]
        return {"by": kept.by, "sam2": helper.segmenter is not None, "rows": rows}

    @app.post("/api/row", dependencies=guarded)
    async def one(request: Request) -> dict[str, Any]:
        task = task_of(await parsed_body(request, RowRequest, LIMITS))
        return await run_in_threadpool(_shown, task, kept)

    @app.post("/api/region", dependencies=guarded)
    async def region(request: Request) -> dict[str, Any]:
        asked = await parsed_body(request, RegionRequest, LIMITS)
        task = task_of(asked)

        def make() -> dict[str, Any]:
            picture = _picture(task)
            mask = _mask(asked.counts, picture)
            with helping:
                box = box_of_row(task.row)
                return {"counts": _runs(helper.clicked(picture, mask, Click(asked.x, asked.y, asked.add), box))}

        return await run_in_threadpool(make)

    @app.post("/api/box", dependencies=guarded)
    async def box(request: Request) -> dict[str, Any]:
        asked = await parsed_body(request, BoxRequest, LIMITS)
        task = task_of(asked)

        def make() -> dict[str, Any]:
            picture = _picture(task)
            mask = _mask(asked.counts, picture)
            with helping:
                return {"counts": _runs(helper.boxed(picture, mask, asked.box, asked.add))}

        return await run_in_threadpool(make)

    @app.post("/api/answer", dependencies=guarded)
    async def answer(request: Request) -> dict[str, Any]:
        asked = await parsed_body(request, AnswerRequest, LIMITS)
        task = task_of(asked)

        def keep() -> dict[str, Any]:
            mask = None
            if asked.said == "mask":
                mask = _mask(asked.counts or [], _picture(task))
                if not mask.any():
                    raise AffordAgentError('the mask is empty: paint it, or say "not in the picture" or "cannot say"')
            with writing:
                said = kept.add(task.key, asked.said, None if mask is None else encode_rle(mask), asked.seconds)
            return {"kept": said.said, "time": said.time}

        return await run_in_threadpool(keep)

    tell_errors(app, HEADERS)
    return app


def _check_site(request: Request, token: str | None) -> None:
    """Without a token, another page in the person's browser must not be able to ask, not even by a name of its own that
    leads here."""
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if token is None and not is_loopback(urlsplit(f"//{host}").hostname or ""):
        raise Refusal(421, "wrong_host", f"this page is served to this machine only, not as {host[:80]}")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Refusal(403, "wrong_origin", "another page may not ask for this")
    given = request.headers.get("authorization", "")
    if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Refusal(401, "unauthorized", "this link is not complete: open it as it was printed")


def _name(task: Task) -> str:
    row = task.row
    thing = f"{row.part} of the {row.category}" if row.part and row.category else row.category or row.text or "?"
    return f"{thing} ({row.source_id or row.image.rpartition('/')[2]})"[:120]


@lru_cache(maxsize=4)
def _picture(task: Task) -> Picture:
    return load_image(task.row)


def _shown(task: Task, kept: AnswerFile) -> dict[str, Any]:
    """What the page shows of a row. start: where one begins, the person's own answer before any tool's."""
    row, picture = task.row, _picture(task)
    height, width = picture.shape[:2]
    answer = kept.answers.get(task.key)
    made, origin = _start(task, picture)
    if answer is not None:
        own = answer.mask() if answer.mask_rle is not None else None
        made, origin = (np.zeros((height, width), bool) if own is None else own), "your answer"
    ok, code = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not ok:
        raise AffordAgentError(f"image {row.image} cannot be shown: it is not encoded as JPEG")
    return {
        "key": task.key,
        "category": row.category or "",
        "part": row.part or "",
        "text": row.text,
        "why": task.why,
        "tools": [said for said in (row.tool_reason or "").split("; ") if said],
        "width": width,
        "height": height,
        "picture": f"data:image/jpeg;base64,{base64.b64encode(code.tobytes()).decode()}",
        "box": box_of_row(row),
        "start": _runs(made),
        "origin": origin,
        "said": answer.said if answer else None,
    }


def _start(task: Task, picture: Picture) -> tuple[Mask, str]:
    """The mask that is there, else the best that was refused, else nothing."""
    row, size = task.row, (picture.shape[0], picture.shape[1])
    if row.status == "labelled":
        return load_mask(row, size), f"the mask of {row.tool or row.source}"
    refused = start_of(row)
    if refused is not None and json.loads(refused)["size"] == list(size):
        return decode_rle(refused, size, f"image {row.image}"), "the best of the refused masks"
    return np.zeros(size, bool), "nothing"


def _mask(counts: list[int], picture: Picture) -> Mask:
    size = (picture.shape[0], picture.shape[1])
    return decode_rle(json.dumps({"size": size, "counts": counts}), size, "the picture")


def _runs(mask: Mask) -> list[int]:
    """COCO's uncompressed counts: of 0 first, which may be none."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat.size and flat[0] else runs
