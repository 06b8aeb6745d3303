"""Rows as COCO's and LabelMe's files, to be mended in other programs and read again as the sources of those names.

    OUT/images/...            the pictures, copied
    OUT/instances.json        COCO: run lengths, without loss
    OUT/images/NAME.json      LabelMe: polygons around the pixels

Only what is in a picture is exported: rows for the part to hold that have a mask. "attributes" (COCO) and "flags"
(LabelMe) say that the mask is what one holds, not the whole thing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import write_json
from affordagent.core.types import Mask, box_of
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import AFFORDANCE, Sample
from affordagent.finetune.data.table import load_image, load_mask

Format = Literal["coco", "labelme"]
FINER = 4  # times finer than pixels: how exactly LabelMe's polygons follow the pixels' outlines
LABELME = "5.5.0"  # the version whose files these are like


@dataclass
class Exported:
    """left_out: rows that are unlabelled, empty or of another kind."""

    pictures: int = 0
    masks: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class _Picture:
    """name: below OUT/images. size: (H, W). masks: each with one of its rows."""

    name: str
    size: tuple[int, int]
    masks: list[tuple[Sample, Mask]] = field(default_factory=list)


def export(rows: Iterable[Sample], out: Path, to: Format) -> Exported:
    """Write a new folder; rows that share a mask and differ in their text alone are one.

    Raises:
        AffordAgentError: the folder is not empty, nothing can be exported, or a picture or mask cannot be read.
    """
    if out.exists() and any(out.iterdir()):
        raise AffordAgentError(f"{out} is not empty: name a new folder")
    counts = Exported()
    pictures = _collected(rows, counts)
    if not pictures:
        raise AffordAgentError("no row has a mask of the part to hold: annotate some first")
    (out / "images").mkdir(parents=True, exist_ok=True)
    for image, picture in pictures.items():
        target = out / "images" / picture.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, target)
    counts.pictures, counts.masks = len(pictures), sum(len(picture.masks) for picture in pictures.values())
    if to == "coco":
        write_json(out / "instances.json", _coco(list(pictures.values())))
    else:
        for picture in pictures.values():
            write_json((out / "images" / picture.name).with_suffix(".json"), _labelme(picture))
    return counts


def _collected(rows: Iterable[Sample], counts: Exported) -> dict[str, _Picture]:
    kept: dict[tuple[Any, ...], Sample] = {}
    for row in rows:
        if row.kind in AFFORDANCE and row.status == "labelled" and (row.mask or row.mask_rle):
            kept.setdefault((row.image, row.category, row.part, row.mask, row.mask_label, row.mask_rle), row)
        else:
            counts.left_out += 1
    images = sorted({row.image for row in kept.values()})
    root = os.path.commonpath([os.path.dirname(image) for image in images]) if images else ""
    pictures: dict[str, _Picture] = {}
    stems: set[str] = set()
    for row in kept.values():
        if row.image not in pictures:
            height, width = load_image(row).shape[:2]
            name = _free_name(os.path.relpath(row.image, root), stems)
            pictures[row.image] = _Picture(name, (height, width))
        picture = pictures[row.image]
        mask = load_mask(row, picture.size)
        if mask.any():
            picture.masks.append((row, mask))
        else:
            counts.left_out += 1
    return {image: picture for image, picture in pictures.items() if picture.masks}


def _free_name(name: str, stems: set[str]) -> str:
    """LabelMe has one JSON for each name without its ending: a.png and a.jpg must not share it."""
    stem, ending = os.path.splitext(Path(name).as_posix())
    free = next(s for s in (stem, *(f"{stem}_{n}" for n in range(2, 10_000_000))) if s not in stems)
    stems.add(free)
    return free + ending


def _coco(pictures: list[_Picture]) -> dict[str, Any]:
    """https://cocodataset.org/#format-data"""
    names = sorted({row.category or "thing" for picture in pictures for row, _ in picture.masks})
    number = {name: i for i, name in enumerate(names, 1)}
    licences = sorted({row.licence for picture in pictures for row, _ in picture.masks if row.licence})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, picture in enumerate(pictures, 1):
        height, width = picture.size
        image: dict[str, Any] = {"id": i, "file_name": picture.name, "width": width, "height": height}
        licence = picture.masks[0][0].licence
        images.append(image | ({"license": licences.index(licence) + 1} if licence else {}))
        for row, mask in picture.masks:
            rle = json.loads(encode_rle(mask))
            x0, y0, x1, y1 = box_of(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": number[row.category or "thing"],
                    "segmentation": rle,
                    "area": int(mask.sum()),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                    "attributes": _facts(row),
                }
            )
    return {
        "info": {"description": "affordagent data export"},
        "licenses": [{"id": i, "name": name, "url": ""} for i, name in enumerate(licences, 1)],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": ""} for name, i in number.items()],
    }


def _facts(row: Sample) -> dict[str, Any]:
    return {"held": True, "part": row.part or "", "text": row.text, "tool": row.tool or ""}


def _labelme(picture: _Picture) -> dict[str, Any]:
    """As LabelMe's `label_file.py` writes it (github wkentaro/labelme). Pieces of one mask share a group_id."""
    shapes = [
        {
            "label": row.category or "thing",
            "points": points.tolist(),
            "group_id": group,
            "description": json.dumps(_facts(row)),
            "shape_type": "polygon",
            "flags": {"held": True},
        }
        for group, (row, mask) in enumerate(picture.masks, 1)
        for points in polygons(mask)
    ]
    return {
        "version": LABELME,
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(picture.name).name,
        "imageData": None,
        "imageHeight": picture.size[0],
        "imageWidth": picture.size[1],
    }


def polygons(mask: Mask) -> list[NDArray[np.float64]]:
    """(n, 2) corners x, y in pixels, the first pixel from 0 to 1, of polygons that together cover a (H, W) mask.

    A polygon has no hole: a piece with one is cut in two through it, until none is left.
    """
    found = []
    for piece, corner in _without_holes(mask):
        fine = piece.astype(np.uint8).repeat(FINER, 0).repeat(FINER, 1)
        outline = max(cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0], key=len)[:, 0]
        inside = (outline + 0.5) / FINER  # the middle of the outermost fine pixels
        found.append(np.round(inside + corner, 3))
    return [points for points in found if len(points) >= 3]


def _without_holes(mask: Mask) -> Iterator[tuple[Mask, tuple[int, int]]]:
    """Pieces of the mask, connected by sides, each with the x, y of its first pixel in the picture."""
    todo = [(mask, (0, 0))]
    while todo:
        part, (left, top) = todo.pop()
        _, labels, boxes, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8), connectivity=4)
        for number, (x, y, width, height, _) in list(enumerate(boxes))[1:]:
            piece = labels[y : y + height, x : x + width] == number
            corner = (left + int(x), top + int(y))
            at = _column_through_hole(piece)
            if at is None:
                yield piece, corner
            else:
                todo += [(piece[:, :at], corner), (piece[:, at:], (corner[0] + at, corner[1]))]


def _column_through_hole(piece: Mask) -> int | None:
    """The middle column of the first hole, as the outline would close it (diagonally too); None without one."""
    around = np.pad(~piece, 1, constant_values=True).astype(np.uint8)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(around, connectivity=4)
    holes = [(x, width) for x, y, width, height, _ in boxes[1:] if x > 0 and y > 0]
    return max(1, int(holes[0][0] - 1 + (holes[0][1] + 1) // 2)) if holes else None
