"""What a person says afterwards of a run that nobody knows the truth of: the right mask, the right thing, the outcome.

    RUN/annotation.json   outcome, what went wrong, the right object and part in words
    RUN/true_mask.png     8 bit, of the size of the run's picture: 0 = neither, 128 = the right object, 255 = its part

Each file is replaced whole, and is on the disk when `write_*` returns.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask

ANNOTATION, TRUE_MASK = "annotation.json", "true_mask.png"
OBJECT, PART = 128, 255
FRAME = "frame_camera.json"  # a folder with this one holds a run that has looked

Kind = Literal[
    "wrong_object", "wrong_part", "nothing_held", "dropped", "slipped", "collision", "stopped", "wrong_place", "other"
]


class Annotation(BaseModel):
    """outcome: was the job done; None = not said. kind: what came instead. thing, part: the right ones, in words; blank
    = as the run took them. absent: the right thing is not in the picture at all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    outcome: Literal["success", "failure"] | None = None
    kind: Kind | None = None
    thing: str = Field(default="", max_length=200)
    part: str = Field(default="", max_length=200)
    absent: bool = False
    note: str = Field(default="", max_length=2000)


def runs_below(folder: Path) -> dict[str, Path]:
    """Name -> folder of every run at or below `folder` that has a picture, in order.

    Raises:
        AffordAgentError: there is none.
    """
    found = sorted(path.parent for path in folder.rglob(FRAME))
    if not found:
        raise AffordAgentError(f"no run with a picture in {folder}: give a run folder, or one that holds some")
    return {path.relative_to(folder).as_posix() if path != folder else path.name: path for path in found}


def read_annotation(run: Path) -> Annotation | None:
    """None where nobody has said anything.

    Raises:
        AffordAgentError: the file is broken.
    """
    if not (run / ANNOTATION).is_file():
        return None
    try:
        return Annotation.model_validate_json((run / ANNOTATION).read_bytes())
    except ValidationError as error:
        raise AffordAgentError(f"{run / ANNOTATION} is broken: {error}") from error


def write_annotation(run: Path, annotation: Annotation) -> None:
    _replace(run / ANNOTATION, json.dumps(annotation.model_dump(), indent=1, ensure_ascii=False).encode() + b"\n")


def read_true_mask(run: Path) -> tuple[Mask, Mask] | None:
    """(H, W) object, with its part, and part; None where nobody has painted them.

    Raises:
        AffordAgentError: the file is broken.
    """
    if not (run / TRUE_MASK).is_file():
        return None
    labels = labels_of((run / TRUE_MASK).read_bytes())
    return labels >= OBJECT // 2, labels >= (OBJECT + PART) // 2


def write_true_mask(run: Path, labels: NDArray[np.uint8]) -> None:
    """labels: (H, W) of 0, OBJECT, PART.

    Raises:
        AffordAgentError: another size than the run's picture has.
    """
    with Image.open(run / "frame_color.png") as picture:
        size = picture.size
    if size != labels.shape[::-1]:
        raise AffordAgentError(f"the mask is {labels.shape[1]}x{labels.shape[0]}, the picture {size[0]}x{size[1]}")
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "PNG")
    _replace(run / TRUE_MASK, file.getvalue())


def labels_of(png: bytes) -> NDArray[np.uint8]:
    """(H, W) of 0, OBJECT, PART from a PNG, by the brightness of its first channel.

    Raises:
        AffordAgentError: it is none.
    """
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            grey = np.array(picture.convert("RGB"))[..., 0]
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise AffordAgentError(f"the mask is no PNG that can be read: {error}") from error
    labels = np.zeros(grey.shape, np.uint8)
    labels[grey >= OBJECT // 2] = OBJECT
    labels[grey >= (OBJECT + PART) // 2] = PART
    return labels


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_name(f"{path.name}.part")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
