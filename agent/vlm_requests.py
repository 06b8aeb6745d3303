"""Requests to the model's server: read no further than their limits, checked, and refused with what would mend them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from PIL import Image, ImageOps
from pydantic import BaseModel, ValidationError

from affordagent.core.errors import AffordAgentError
from affordagent.tools.vlm_wire import Picture, SegmentRequest, from_base64

MARKERS = ("[AFF]", "[SEG]")
PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # what 8-bit files decode to

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class Limits:
    """What a request may ask for. Everything is compared before work is done on it."""

    body_bytes: int = 20_000_000
    body_s: float = 30.0  # for the body to arrive
    least_side_px: int = 16
    side_px: int = 8192
    pixels: int = 25_000_000
    aspect: float = 10.0  # the CLIP recipe scales the short side to 224: long strips would become huge
    text_chars: int = 2000  # of a question and of a reply
    markers: int = 8  # [AFF] and [SEG] in question and reply together: each costs a mask of the picture's size
    new_tokens: int = 512
    waiting: int = 4  # requests that wait while one is being answered
    waiting_s: float = 60.0
    retry_after_s: int = 2


class Refusal(AffordAgentError):
    """An answer other than 200, as typed JSON."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


def error_answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The form of all errors of our servers."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def tell_errors(app: FastAPI, headers: Mapping[str, str] | None = None) -> None:
    """For a page: refusals are told as they say, what does not fit as 422 "unfit". headers: of all error answers."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return error_answer(error.status, error.code, str(error), {**(headers or {}), **(error.headers or {})})

    @app.exception_handler(AffordAgentError)
    async def unfit(request: Request, error: AffordAgentError) -> JSONResponse:
        return error_answer(422, "unfit", str(error), headers)


class ImgMaskRequest(BaseModel):
    """Body of POST /img_mask. img: a BMP (or PNG, JPEG) file in base64."""

    img: str
    prompt: str


async def parsed_body(request: Request, kind: type[Body], limits: Limits) -> Body:
    """The JSON body, read no further than its limit.

    Raises:
        Refusal: 413 too large, 408 too slow, 422 not what `kind` says.
    """
    received = bytearray()
    size = 0
    try:
        async with asyncio.timeout(limits.body_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limits.body_bytes:
                    received += chunk
                elif size > 4 * limits.body_bytes:
                    break  # what is a little too long is read to its end, so that the client gets the answer
    except TimeoutError as error:
        raise Refusal(408, "too_slow", f"the body did not arrive within {limits.body_s:g} s") from error
    if size > limits.body_bytes:
        message = f"the body has {size} bytes or more, at most {limits.body_bytes} are taken: send a smaller picture"
        raise Refusal(413, "body_too_large", message)
    try:
        return kind.model_validate_json(bytes(received))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        fields = ", ".join(kind.model_fields)
        raise Refusal(422, "bad_request", f"{faults}. The body is one JSON object with {fields}") from error


def checked_texts(asked: SegmentRequest, limits: Limits) -> None:
    """Raises: Refusal 422 naming the value, the limit and the mend."""
    for name, text in (("question", asked.question), ("reply", asked.reply)):
        if text is not None and not text.strip():
            raise Refusal(422, "bad_request", f"the {name} is empty: write what is asked")
        if text is not None and len(text) > limits.text_chars:
            message = f"the {name} has {len(text)} characters, at most {limits.text_chars} are taken: shorten it"
            raise Refusal(422, "text_too_long", message)
    markers = sum((asked.question + (asked.reply or "")).count(marker) for marker in MARKERS)
    if markers > limits.markers:
        message = f"{markers} [AFF] and [SEG] in question and reply, at most {limits.markers} are taken: ask in parts"
        raise Refusal(422, "too_many_masks", message)
    if not 1 <= asked.max_new_tokens <= limits.new_tokens:
        message = f"max_new_tokens is {asked.max_new_tokens}, must be 1 to {limits.new_tokens}"
        raise Refusal(422, "bad_request", message)


def read_picture(text: str, limits: Limits) -> Picture:
    """(H, W, 3) uint8 RGB of a PNG, JPEG or BMP file in base64, turned upright as its EXIF says (as OpenCV does).

    Raises:
        Refusal: 422 when it is none, 16-bit, or of a size outside the limits; the size is compared before decoding.
    """
    try:
        data = from_base64(text, "the picture")
    except AffordAgentError as error:
        raise Refusal(422, "bad_picture", str(error)) from error
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "BMP")) as image:
            _check_size(*image.size, limits)
            if image.mode not in PLAIN_MODES:
                message = f"the picture has pixels of mode {image.mode}: save it as 8-bit RGB"
                raise Refusal(422, "bad_picture", message)
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Image.DecompressionBombError as error:
        raise Refusal(422, "picture_too_large", f"{error}; scale it down") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for files that are cut or no pictures
        message = f"the picture ({len(data)} bytes) cannot be decoded: send a PNG or JPEG file"
        raise Refusal(422, "bad_picture", message) from error


def _check_size(width: int, height: int, limits: Limits) -> None:
    size = f"the picture is {width}x{height}"
    if max(width, height) > limits.side_px or width * height > limits.pixels:
        message = f"{size}, at most {limits.side_px} a side and {limits.pixels} pixels are taken: scale it down"
        raise Refusal(422, "picture_too_large", message)
    if min(width, height) < limits.least_side_px or max(width, height) > limits.aspect * min(width, height):
        message = (
            f"{size}, at least {limits.least_side_px} pixels a side are needed, and no side more than "
            f"{limits.aspect:g} times the other: cut it otherwise"
        )
        raise Refusal(422, "bad_picture", message)
