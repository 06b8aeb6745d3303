"""LabelMe's files: a JSON next to each picture (github wkentaro/labelme, label_file.py). Polygons and rectangles are
read; shapes of one label and one `group_id` are pieces of one thing. Pictures inside the JSON (`imageData`) are not.

    DIR/**/NAME.json with "imagePath": NAME.jpg
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.pictures import MAX_PIXELS
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.coco import polygon_rle
from affordagent.finetune.data.sources.found import (
    MALFORMED,
    Found,
    Take,
    attempt,
    held_anywhere,
    inside,
    object_of,
    part_of,
    provenance,
    question,
    read_json,
    reason_of,
    text_of,
)


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each thing of every JSON file in the folder and below it.

    Raises:
        AffordAgentError: there is no such folder.
    """
    if not folder.is_dir():
        raise AffordAgentError(f"{folder} is not a folder")
    for parent, below, files in os.walk(folder):
        below.sort()
        for name in sorted(name for name in files if name.endswith(".json")):
            yield from _of_file(folder, Path(parent).relative_to(folder) / name, take)


def _of_file(root: Path, place: Path, take: Take) -> Iterator[Found]:
    try:
        content = object_of(read_json(inside(root, place)), place.name)
        picture = inside(root, place.parent / text_of(content["imagePath"]))
        height, width = content["imageHeight"], content["imageWidth"]
        if type(height) is not int or type(width) is not int or not 0 < height * width <= MAX_PIXELS or height < 1:
            raise AffordAgentError(f"size {str(width)[:20]}x{str(height)[:20]} is no size of a picture")
        things: dict[Any, list[dict[str, Any]]] = {}
        for number, given in enumerate(content["shapes"]):
            shape = object_of(given, f"shape {number}")
            group = shape.get("group_id")
            label = text_of(shape["label"])
            things.setdefault((label, group) if isinstance(group, int) else (label, "alone", number), []).append(shape)
    except MALFORMED as error:
        yield Rejected(str(place), reason_of(error))
        return
    for number, ((label, *_), shapes) in enumerate(things.items()):
        source_id = f"{place.with_suffix('')}/{number}"
        name = label.replace("_", " ")
        yield attempt(source_id, _row, (root, picture), name, shapes, (height, width), source_id, take)


def _row(
    found: tuple[Path, Path], category: str, shapes: list[dict[str, Any]], size: tuple[int, int], source_id: str,
    take: Take,
) -> Sample:  # fmt: skip
    root, picture = found
    rle = polygon_rle([_polygon(shape) for shape in shapes], size)
    told = all(isinstance(shape.get("flags"), dict) and shape["flags"].get("held") is True for shape in shapes)
    held = told or held_anywhere(category)
    relative = picture.relative_to(root).as_posix()
    return Sample(
        image=str(picture),
        text=question(category, source_id, take.seed),
        mask_rle=rle if held else None,
        category=category,
        source=f"labelme:{root.absolute().name}",
        split="train",
        source_id=source_id,
        group=f"labelme:{root.absolute().name}/{relative}",
        licence=take.licence,
        provenance=provenance(file=relative),
        part=part_of(category),
        object_rle=None if told else rle,
        status="labelled" if held else "unlabelled",
        tool="original" if held else None,
        tool_reason=("the flag 'held' says that it is what one holds" if told else f"a {category} is held anywhere")
        if held
        else None,
    )


def _polygon(shape: dict[str, Any]) -> list[Any]:
    points, kind = shape["points"], shape.get("shape_type", "polygon")
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    elif kind != "polygon":
        raise AffordAgentError(f"a shape is a {str(kind)[:40]!r}; polygons and rectangles are read")
    return [n for x, y in points for n in (x, y)]
