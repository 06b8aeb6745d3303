"""What `affordagent vlm` writes: the answer as arrays, and its masks on the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import VlmAnswer

MASK_RGB = ((255, 0, 190), (40, 190, 90), (90, 140, 240), (250, 180, 0))  # first, second, ... mask


def save_answer(answer: VlmAnswer, file: Path) -> None:
    """A .npz with output_ids (T,) int64, mask_logits (n, H, W) float32 and masks (n, H, W) bool.

    Raises:
        AffordAgentError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:  # a name without .npz stays as it is
            np.savez_compressed(
                stream, output_ids=answer.output_ids, mask_logits=answer.mask_logits, masks=answer.masks
            )
    except OSError as error:
        raise AffordAgentError(f"cannot write {file}: {error}") from error


def save_overlay(image: NDArray[np.uint8], answer: VlmAnswer, file: Path) -> None:
    """The picture (H, W, 3) RGB with each mask tinted and outlined.

    Raises:
        AffordAgentError: the file cannot be written, or its name does not end in that of a picture.
    """
    picture = image.copy()
    for number, mask in enumerate(answer.masks):
        colour = MASK_RGB[number % len(MASK_RGB)]
        picture[mask] = (0.5 * picture[mask] + 0.5 * np.array(colour)).astype(np.uint8)
        outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outline, -1, colour, 1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
    except (OSError, ValueError) as error:
        raise AffordAgentError(f"cannot write {file}: {error}") from error
