"""The two picture recipes of the published model with Pillow alone, equal bit for bit to what it was trained with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from affordagent.core.errors import AffordAgentError

CLIP_SIZE_PX = 224
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
SAM_SIZE_PX = 1024
SAM_MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
SAM_STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def clip_pixels(image: NDArray[np.uint8]) -> Tensor:
    """(3, 224, 224) float32 from (H, W, 3) uint8 RGB: shortest side to 224 (bicubic), centre crop, CLIP's mean and std.

    What lies outside the centre square of a long picture is not seen by the language model; SAM sees all of it.
    """
    height, width = check_picture(image).shape[:2]
    short = min(height, width)
    rows, columns = (int(CLIP_SIZE_PX * side / short) for side in (height, width))
    resized = Image.fromarray(image).resize((columns, rows), Image.Resampling.BICUBIC)
    top, left = (rows - CLIP_SIZE_PX) // 2, (columns - CLIP_SIZE_PX) // 2
    pixels = np.asarray(resized)[top : top + CLIP_SIZE_PX, left : left + CLIP_SIZE_PX]
    scaled = (pixels * (1 / 255)).astype(np.float32)
    return torch.from_numpy(((scaled - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1).copy())


def sam_pixels(image: NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
    """(3, 1024, 1024) float32 and the (rows, columns) in it that hold the picture; the rest is 0.

    The longest side becomes 1024 (bilinear on uint8), then SAM's mean and std, then zeros right and below.
    """
    rows, columns = sam_size(*check_picture(image).shape[:2])
    resized = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
    pixels = torch.zeros(3, SAM_SIZE_PX, SAM_SIZE_PX)
    pixels[:, :rows, :columns] = (torch.from_numpy(resized.copy()).permute(2, 0, 1) - SAM_MEAN) / SAM_STD
    return pixels, (rows, columns)


def sam_size(height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of a picture of height x width within SAM's square."""
    scale = SAM_SIZE_PX / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def check_picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture itself.

    Raises:
        AffordAgentError: not (H, W, 3) uint8, or so long that its short side vanishes.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise AffordAgentError(f"the picture must be (H, W, 3) uint8 RGB, it is {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    if max(height, width) > SAM_SIZE_PX * min(height, width):
        raise AffordAgentError(f"a picture of {width}x{height} is too long for its width; crop it")
    return image
