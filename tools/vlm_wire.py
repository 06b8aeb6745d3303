"""What a client and a server of an AffordanceVLM say to each other: JSON, pictures and masks in base64.

Used on both ends (`tools.vlm_client`, `agent.vlm_server`), so a mask comes out as it went in.
"""

from __future__ import annotations

import base64
import binascii
import io
import zipfile
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from pydantic import BaseModel, ConfigDict

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask, VlmAnswer

TOKEN_VARIABLE = "AFFORDAGENT_VLM_TOKEN"
SEGMENT, HEALTH = "/v1/segment", "/health"
NEW_TOKENS = 512  # the reference's limit for an answer

Picture = NDArray[np.uint8]
MaskFormat = Literal["png", "rle", "npz"]


class Vlm(Protocol):
    """A model that answers a question about a picture with text and masks, here or on another machine.

    image: (H, W, 3) uint8 RGB. question: without "You are an embodied robot. ", which `prefix` puts in front.
    `teacher_forced` gives the masks of the [AFF] and [SEG] in `reply` instead of writing an answer of its own.
    """

    def answer(
        self,
        image: Picture,
        question: str,
        max_new_tokens: int = NEW_TOKENS,
        use_cache: bool = True,
        *,
        prefix: bool = True,
    ) -> VlmAnswer: ...

    def teacher_forced(self, image: Picture, question: str, reply: str, *, prefix: bool = True) -> VlmAnswer: ...


class SegmentRequest(BaseModel):
    """Body of POST /v1/segment. image: PNG or JPEG in base64."""

    model_config = ConfigDict(extra="forbid", strict=True)
    image: str
    question: str
    reply: str | None = None
    max_new_tokens: int = NEW_TOKENS
    use_cache: bool = True
    prefix: bool = True
    mask_format: MaskFormat = "png"


class RunLengths(BaseModel):
    """COCO's compressed run-length encoding. size: height, width."""

    size: tuple[int, int]
    counts: str


class SegmentReply(BaseModel):
    """Answer of POST /v1/segment. size: height, width. masks: PNG (0 and 255) in base64, or run lengths; with "npz"
    they stay empty and mask_logits is an NPZ file in base64 with `mask_logits`, (n, H, W) float32."""

    text: str
    output_ids: list[int]
    size: tuple[int, int]
    mask_format: MaskFormat
    masks: list[str | RunLengths]
    mask_logits: str | None = None
    timings_s: dict[str, float]


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, what: str) -> bytes:
    """Raises: AffordAgentError when `text` is no base64."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise AffordAgentError(f"{what} is not base64 ({error}): send the file's bytes in plain base64") from error


def picture_file(image: NDArray[np.uint8], kind: Literal["PNG", "BMP"] = "PNG") -> bytes:
    """The bytes of a lossless file of (H, W) or (H, W, 3) RGB."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind, compress_level=1)
    return file.getvalue()


def run_lengths(mask: Mask) -> RunLengths:
    """(H, W) bool as COCO writes it."""
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    height, width = encoded["size"]
    return RunLengths(size=(height, width), counts=encoded["counts"].decode("ascii"))


def mask_of(lengths: RunLengths) -> Mask:
    """(H, W) bool, the inverse of `run_lengths`."""
    return coco.decode({"size": list(lengths.size), "counts": lengths.counts.encode("ascii")}).astype(bool)


def encode(answer: VlmAnswer, mask_format: MaskFormat) -> SegmentReply:
    masks: list[str | RunLengths] = []
    logits = None
    if mask_format == "png":
        masks = [to_base64(picture_file(mask.astype(np.uint8) * 255)) for mask in answer.masks]
    elif mask_format == "rle":
        masks = [run_lengths(mask) for mask in answer.masks]
    else:
        file = io.BytesIO()
        np.savez(file, mask_logits=answer.mask_logits)
        logits = to_base64(file.getvalue())
    height, width = answer.mask_logits.shape[1:]
    return SegmentReply(
        text=answer.text,
        output_ids=answer.output_ids.tolist(),
        size=(height, width),
        mask_format=mask_format,
        masks=masks,
        mask_logits=logits,
        timings_s=answer.timings_s,
    )


def decode_logits(reply: SegmentReply) -> VlmAnswer:
    """The answer as the model gave it, from a reply in "npz".

    Raises:
        AffordAgentError: the reply holds no logits, or not (n, H, W) float32 of its own size.
    """
    if reply.mask_logits is None:
        raise AffordAgentError(f"the reply has masks in {reply.mask_format} and no logits: ask for mask_format npz")
    try:
        with np.load(io.BytesIO(from_base64(reply.mask_logits, "mask_logits")), allow_pickle=False) as file:
            logits = file["mask_logits"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise AffordAgentError(f"mask_logits of the reply is no NPZ file with mask_logits: {error}") from error
    if logits.ndim != 3 or logits.dtype != np.float32 or logits.shape[1:] != reply.size:
        raise AffordAgentError(
            f"mask_logits of the reply are {logits.shape} {logits.dtype}, must be float32 of (n, *{reply.size}): "
            "client and server are of different versions"
        )
    return VlmAnswer(reply.text, np.array(reply.output_ids, np.int64), logits, reply.timings_s)
