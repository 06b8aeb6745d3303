"""An AffordanceVLM over HTTP: `POST /v1/segment`, `GET /health`, and the reference server's `POST /img_mask`.

The protocol of /img_mask is that of server.py and client.py in github.com/wudongming97/AffordanceNet. Errors are
`{"error": {"code", "message"}}`; docs/serving.md lists the codes.
"""

from __future__ import annotations

import asyncio
import hmac
import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from affordagent.agent.vlm_requests import (
    ImgMaskRequest,
    Limits,
    Refusal,
    checked_texts,
    error_answer,
    parsed_body,
    read_picture,
)
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import VlmAnswer
from affordagent.tools.vlm_wire import (
    HEALTH,
    SEGMENT,
    Picture,
    SegmentRequest,
    Vlm,
    encode,
    picture_file,
    to_base64,
)

REFERENCE_ON = 100  # value of the mask's pixels in the reference's answer

T = TypeVar("T")


@dataclass(frozen=True)
class ServedModel:
    """What /health says about the model; no paths."""

    name: str
    dtype: str = "unknown"


class Turns:
    """One inference at a time: a few may wait, further ones are sent away at once. in_hand: requests that are being
    answered or wait."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = asyncio.Lock()
        self.in_hand = 0

    async def run(self, request: Request, work: Callable[[], T]) -> tuple[T, float]:
        """What `work` returns, done in a thread when it is this request's turn, and the seconds it waited."""
        if self.in_hand > self._limits.waiting:
            self._refuse(f"{self._limits.waiting} requests are waiting already")
        self.in_hand += 1
        arrived = time.perf_counter()
        try:
            try:
                async with asyncio.timeout(self._limits.waiting_s):
                    await self._lock.acquire()
            except TimeoutError:
                self._refuse(f"no turn came within {self._limits.waiting_s:g} s")
            try:
                if await request.is_disconnected():
                    raise Refusal(400, "client_gone", "the client hung up before its turn came")
                waited_s = time.perf_counter() - arrived
                return await run_in_threadpool(work), waited_s
            finally:
                self._lock.release()
        finally:
            self.in_hand -= 1

    def _refuse(self, reason: str) -> NoReturn:
        message = f"the model is busy: {reason}; try again in {self._limits.retry_after_s} s"
        raise Refusal(503, "busy", message, {"Retry-After": str(self._limits.retry_after_s)})


def create_app(
    predictor: Vlm, token: str | None, model: ServedModel | None = None, limits: Limits | None = None
) -> FastAPI:
    """The application. token: what every request but /health must carry as `Authorization: Bearer`; None lets
    everybody in, which is for loopback only."""
    model, limits = model or ServedModel(type(predictor).__name__), limits or Limits()
    app = FastAPI(title="affordagent VLM", docs_url=None, redoc_url=None, openapi_url=None)
    turns = Turns(limits)

    def authorised(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            message = "the token is missing or wrong: send the header `Authorization: Bearer TOKEN`"
            raise Refusal(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})

    guarded = [Depends(authorised)]

    async def ask(request: Request, asked: SegmentRequest) -> tuple[VlmAnswer, dict[str, float]]:
        """The model's answer, and its timings with those of the server."""
        start = time.perf_counter()
        checked_texts(asked, limits)
        image = await run_in_threadpool(read_picture, asked.image, limits)
        decoded_s = time.perf_counter() - start
        answer, waited_s = await turns.run(request, lambda: _ask(predictor, image, asked))
        total_s = time.perf_counter() - start
        timings_s = {**answer.timings_s, "decode_picture": decoded_s, "wait": waited_s, "server": total_s}
        return answer, {name: round(value, 4) for name, value in timings_s.items()}

    @app.get(HEALTH)
    async def health() -> dict[str, Any]:
        return {
            "status": "ready",
            "model": model.name,
            "dtype": model.dtype,
            "version": importlib.metadata.version("affordagent"),
            "in_hand": turns.in_hand,
            "needs_token": token is not None,
            "max_body_bytes": limits.body_bytes,
            "max_pixels": limits.pixels,
        }

    @app.post(SEGMENT, dependencies=guarded)
    async def segment(request: Request) -> Response:
        asked = await parsed_body(request, SegmentRequest, limits)
        answer, timings_s = await ask(request, asked)
        reply = await run_in_threadpool(encode, answer, asked.mask_format)
        content = reply.model_copy(update={"timings_s": timings_s}).model_dump_json()
        return Response(content, media_type="application/json")

    @app.post("/img_mask", dependencies=guarded)
    async def img_mask(request: Request) -> dict[str, Any]:
        """The first mask as a BMP of 0 and 100, three channels. Without a mask: a blank one, and `error` beside it."""
        given = await parsed_body(request, ImgMaskRequest, limits)
        asked = SegmentRequest(image=given.img, question=given.prompt, max_new_tokens=limits.new_tokens)
        answer, _ = await ask(request, asked)
        return await run_in_threadpool(reference_reply, answer)

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return error_answer(error.status, error.code, str(error), error.headers)

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> JSONResponse:
        """No such path, or another method."""
        message = f"{error.detail}: POST {SEGMENT}, POST /img_mask, GET {HEALTH}"
        return error_answer(error.status_code, "no_such_endpoint", message, error.headers)

    @app.exception_handler(AffordAgentError)
    async def unanswerable(request: Request, error: AffordAgentError) -> JSONResponse:
        return error_answer(422, error.code if isinstance(error, StageFailure) else "model_refused", str(error))

    @app.exception_handler(Exception)
    async def crashed(request: Request, error: Exception) -> JSONResponse:
        message = f"the model failed with {type(error).__name__}; the server's log has the traceback"
        return error_answer(500, "model_failed", message)

    return app


def _ask(predictor: Vlm, image: Picture, asked: SegmentRequest) -> VlmAnswer:
    if asked.reply is not None:
        return predictor.teacher_forced(image, asked.question, asked.reply, prefix=asked.prefix)
    return predictor.answer(image, asked.question, asked.max_new_tokens, asked.use_cache, prefix=asked.prefix)


def reference_reply(answer: VlmAnswer) -> dict[str, Any]:
    """The reference's JSON: only the first mask, as it does. `text` and `error` are ours; its clients ignore them."""
    masks = answer.masks
    mask = masks[0] if len(masks) else np.zeros(masks.shape[1:], bool)
    gray = mask.astype(np.uint8) * REFERENCE_ON
    reply: dict[str, Any] = {
        "img": to_base64(picture_file(np.repeat(gray[..., None], 3, 2), "BMP")),
        "text": answer.text,
    }
    if not mask.any():
        message = f"the model marked nothing in the picture; its answer: {answer.text}"
        reply["error"] = {"code": "no_mask", "message": message}
    return reply
