"""COCO's run-length encoding of masks, read without trust (https://github.com/cocodataset/cocoapi, common/maskApi.c).

Column by column, the lengths of runs of 0 and 1 in turn, as a list or as a string of 5 bits a character.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask

MAX_BITS = 35  # of one run: no picture has 2^35 pixels, and longer numbers only cost time


def encode_rle(mask: Mask) -> str:
    """(H, W) bool -> the JSON of a COCO run-length encoding, as `Sample.mask_rle` holds it."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return json.dumps({"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")})


def decode_rle(text: str, size: tuple[int, int], whose: str) -> Mask:
    """(H, W) bool. text: the JSON; size: the (H, W) that it must have; whose: for the error.

    Raises:
        AffordAgentError: another size, or runs that do not add up to it.
    """
    rle = json.loads(text)
    if tuple(rle["size"]) != size:
        raise AffordAgentError(
            f"mask_rle is {rle['size'][1]}x{rle['size'][0]}, {whose} is {size[1]}x{size[0]}: they must have one size"
        )
    runs = rle["counts"] if isinstance(rle["counts"], list) else _runs(rle["counts"])
    if any(type(n) is not int or n < 0 for n in runs) or sum(runs) != size[0] * size[1]:
        raise AffordAgentError(
            f"mask_rle of {whose} is broken: its runs do not add up to {size[0] * size[1]} pixels; "
            "write it with pycocotools.mask.encode"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[1], size[0]).T


def looks_like_rle(text: str) -> bool:
    """Has it the form of one? Its runs are not added up."""
    try:
        return is_rle(json.loads(text))
    except (ValueError, RecursionError):
        return False


def is_rle(rle: Any) -> bool:
    """The same of decoded JSON."""
    if not isinstance(rle, dict) or not isinstance(rle.get("counts"), str | list):
        return False
    size = rle.get("size")
    return isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)


def _runs(counts: str) -> list[int]:
    """The run lengths of COCO's string: 5 bits a character, low ones first, each but the first two as a difference.

    pycocotools has its own, but fills the mask of a string that is too short with what was in memory.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
        elif shift > MAX_BITS:
            return []
    return runs if shift == 0 else []
