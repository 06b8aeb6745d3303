"""Pictures from outside, opened without trust: what they are, how large, and what tells them from others."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.fft import dctn

# Decoders in this process and of pictures alone: Pillow would hand an EPS to Ghostscript, which runs it as a program.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
MAX_PIXELS = 80_000_000
EXIF_ORIENTATION, TURNED = 0x0112, 5
# What Pillow raises for files that are missing, no picture, cut, broken inside, or absurdly large. Found by changing
# bytes at random: a broken stream fails wherever its decoder happens to be.
PICTURE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Look:
    """size: (H, W), upright. sha256: of the upright RGB pixels and the size. phash: see `phash_of`. Both in hex."""

    size: tuple[int, int]
    sha256: str
    phash: str


def opened(path: str) -> Image.Image:
    """The picture with its header read; to be closed.

    Raises:
        one of PICTURE_ERRORS: also for what is no plain file, no picture of FORMATS, or larger than MAX_PIXELS.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("is not a plain file")
    picture = Image.open(path, formats=FORMATS)
    width, height = picture.size
    if width * height > MAX_PIXELS:
        picture.close()
        raise ValueError(f"{width}x{height} pixels, the limit is {MAX_PIXELS // 10**6} megapixels: make it smaller")
    return picture


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """(H, W) of an opened picture, turned as its EXIF tag says, as load_image turns it; nothing is decoded."""
    width, height = picture.size
    turned = _orientation(picture) in range(TURNED, 9)
    return (width, height) if turned else (height, width)


@lru_cache(maxsize=65_536)  # many rows share a picture
def look(path: str) -> Look | str:
    """What a picture is, decoded to its last row; or what is wrong with it."""
    if not os.path.isfile(path):
        return "is missing"
    try:
        with opened(path) as picture:
            picture.load()  # OpenCV fills what a cut file lacks with grey and says nothing
            size = upright_size(picture)
            if "exif" in picture.info and _orientation(picture) != 1:
                problem = _turned_otherwise(path, size)
                if problem:
                    return problem
                picture = ImageOps.exif_transpose(picture)
            pixels = np.asarray(picture.convert("RGB"))
    except PICTURE_ERRORS as error:
        return f"is broken: {error}"
    if not cv2.haveImageReader(path):
        return "is of a kind OpenCV does not read"
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Look(size, digest.hexdigest(), phash_of(pixels))


def phash_of(pixels: NDArray[np.uint8]) -> str:
    """(H, W, 3) RGB -> 16 hex digits: which of the 64 lowest waves of the 32x32 grey picture are above their median.

    Pictures that look alike differ in few bits. The mean, which is brightness alone, is left out. Source: Zauner,
    "Implementation and benchmarking of perceptual image hash functions", 2010.
    """
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    waves = dctn(grey.astype(np.float64), norm="ortho")[:8, 1:9].ravel()
    return np.packbits(waves > np.median(waves)).tobytes().hex()


def _orientation(picture: Image.Image) -> int:
    """The EXIF tag; 1, as it is, for a tag or a block that is broken."""
    try:
        value = picture.getexif().get(EXIF_ORIENTATION, 1)
    except PICTURE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned_otherwise(path: str, size: tuple[int, int]) -> str:
    """What is wrong where OpenCV, which training reads with, turns the picture in another way; "" when nothing is."""
    pixels = cv2.imread(path, cv2.IMREAD_COLOR)
    if pixels is not None and pixels.shape[:2] == size:
        return ""
    return "has an EXIF tag that programs read in two ways: turn the picture upright and save it without the tag"
