"""COCO-style JSON: any set with `images`, `annotations` and `categories`; also LVIS's.

Source: https://cocodataset.org/#format-data. A segmentation is a list of polygons, or run lengths, plain or
compressed; crowds (`iscrowd`) are no single thing and are refused. An annotation whose `attributes` have `held`: true,
as `affordagent data export` writes it, is the mask of what one holds. Give the folder with the JSON files and the
pictures, or one file:

    annotations/*.json or *.json
    <file_name>, images/<file_name> or <name of the split>/<file_name>
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.pictures import MAX_PIXELS
from affordagent.finetune.data.rle import decode_rle, encode_rle, is_rle
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.found import (
    MALFORMED,
    Found,
    Take,
    attempt,
    box_json,
    held_anywhere,
    inside,
    object_of,
    part_of,
    provenance,
    question,
    read_json,
    reason_of,
    split_named,
    text_of,
)

MAX_POINTS = 20_000  # of all polygons of a thing
Record = dict[str, Any]


@dataclass(frozen=True)
class Annotated:
    """A JSON file. places: folders below the root that pictures may be in, in order. group_key: field of an image whose
    value its split must not divide (a video), if any."""

    file: Path
    root: Path
    source: str
    licence: str | None = None
    url: str | None = None
    places: tuple[str, ...] = ("", "images")
    group_key: str | None = None
    categories: dict[Any, str] = field(default_factory=dict)


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each annotation of every JSON file in the folder or its `annotations`.

    Raises:
        AffordAgentError: there is none.
    """
    root = folder.parent if folder.is_file() else folder
    files = [folder] if folder.is_file() else sorted([*root.glob("annotations/*.json"), *root.glob("*.json")])
    if not files:
        raise AffordAgentError(f"{folder} holds no .json, and neither does its folder annotations")
    for file in files:
        stem = file.stem.removeprefix("instances_")
        source = f"coco:{root.absolute().name}"
        yield from annotated(Annotated(file, root, source, places=("", "images", stem, f"images/{stem}")), take)


def annotated(given: Annotated, take: Take) -> Iterator[Found]:
    """The rows of one JSON file."""
    name = given.file.name
    try:
        inside(given.root, given.file.relative_to(given.root))
        content = object_of(read_json(given.file), name)
        lists = {key: _list(content, key, name) for key in ("images", "annotations")}
        licences = {one.get("id"): text_of(one["name"]) for one in _objects(content.get("licenses")) if "name" in one}
        categories = given.categories | {
            one.get("id"): text_of(one["name"]).replace("_", " ")
            for one in _objects(content.get("categories"))
            if "name" in one
        }
    except MALFORMED as error:
        yield Rejected(name, reason_of(error))
        return
    images: dict[Any, Record] = {}
    for i, image in enumerate(lists["images"]):
        problem = _problem(image, images)
        if problem:
            yield Rejected(f"{name}, image {i}", problem)
        else:
            images[image["id"]] = image
    seen: set[Any] = set()
    for i, one in enumerate(lists["annotations"]):
        where = f"{name}, annotation {i}"
        problem = _problem(one, seen)
        if problem:
            yield Rejected(where, problem)
            continue
        seen.add(one["id"])
        yield attempt(where, _row, given, one, images, categories, licences, take)


def _row(
    given: Annotated, one: Record, images: dict[Any, Record], categories: dict[Any, str], licences: dict[Any, str],
    take: Take,
) -> Sample:  # fmt: skip
    image = images.get(one.get("image_id"))
    if image is None:
        raise AffordAgentError(f"image_id {str(one.get('image_id'))[:40]!r} is none of the images")
    if one.get("iscrowd"):
        raise AffordAgentError("is a crowd of things (iscrowd), not one to hold")
    size = _size(image)
    category = categories.get(one.get("category_id"))
    rle = _mask(one.get("segmentation"), size)
    box = one.get("bbox")
    if rle is None and box is None:
        raise AffordAgentError("has neither a segmentation nor a bbox")
    if box is not None:
        if not isinstance(box, list) or len(box) != 4:
            raise AffordAgentError(f"bbox {str(box)[:80]} is not [x, y, width, height]")
        box = box_json(box[0], box[1], _sum(box[0], box[2]), _sum(box[1], box[3]), size)
    told = rle is not None and isinstance(one.get("attributes"), dict) and one["attributes"].get("held") is True
    held = told or (rle is not None and held_anywhere(category))
    reason = "the file says that it is what one holds" if told else f"a {category} is held anywhere: the set's own mask"
    source_id = f"{given.file.stem}/{one['id']}"
    file = _picture(given, image)
    return Sample(
        image=str(given.root / file),
        text=question(category, source_id, take.seed),
        mask_rle=rle if held else None,
        category=category,
        source=given.source,
        split=split_named(given.file.stem),
        source_id=source_id,
        group=f"{given.source}/{text_of(str(image.get(given.group_key or 'id', image['id'])))}",
        licence=licences.get(image.get("license")) or given.licence or take.licence,
        provenance=provenance(url=given.url, file=file.as_posix(), image=str(image["id"])[:80]),
        part=part_of(category),
        box=box,
        object_rle=None if told else rle,
        status="labelled" if held else "unlabelled",
        tool="original" if held else None,
        tool_reason=reason if held else None,
    )


def _picture(given: Annotated, image: Record) -> Path:
    """Its file, relative to the root."""
    name = image.get("file_name") or str(image.get("url") or image.get("coco_url") or "").rpartition("/")[2]
    problem: AffordAgentError | None = None
    for place in given.places:
        try:
            return inside(given.root, Path(place) / name).relative_to(given.root)
        except AffordAgentError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _mask(segmentation: Any, size: tuple[int, int]) -> str | None:
    """The run lengths of a segmentation in a picture of (H, W) size, None where there is none."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        if not is_rle(segmentation):
            raise AffordAgentError("segmentation is neither polygons nor run lengths")
        return encode_rle(decode_rle(json.dumps(segmentation), size, "image"))
    return polygon_rle(segmentation, size)


def polygon_rle(polygons: Any, size: tuple[int, int]) -> str:
    """The run lengths of polygons [[x, y, x, y, ...], ...], pixels, cut at the border of a picture of (H, W) size.

    Raises:
        AffordAgentError: not lists of finite numbers, fewer than three points, or too many.
    """
    if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
        raise AffordAgentError("its polygons are not lists of numbers")
    numbers = [n for polygon in polygons for n in polygon]
    if len(numbers) > 2 * MAX_POINTS:
        raise AffordAgentError(f"its polygons have {len(numbers) // 2} points, the limit is {MAX_POINTS}")
    if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        raise AffordAgentError("its polygons hold what is no finite number")
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise AffordAgentError("a polygon of it is not x, y, x, y, ... of three points or more")
    limits = (size[1], size[0])
    cut = [[min(max(float(n), 0.0), float(limits[i % 2])) for i, n in enumerate(polygon)] for polygon in polygons]
    merged = coco_mask.merge(coco_mask.frPyObjects(cut, *size))
    return json.dumps({"size": list(size), "counts": merged["counts"].decode("ascii")})


def _size(image: Record) -> tuple[int, int]:
    height, width = image.get("height"), image.get("width")
    if type(height) is not int or type(width) is not int or height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise AffordAgentError(f"the image's size {str(width)[:20]}x{str(height)[:20]} is no size of a picture")
    return height, width


def _sum(one: Any, other: Any) -> Any:
    number = (int, float)
    return one + other if isinstance(one, number) and isinstance(other, number) else math.nan


def _list(content: Record, key: str, name: str) -> list[Any]:
    if not isinstance(content.get(key), list):
        raise AffordAgentError(f"{name} has no list '{key}': it is no COCO-style file")
    return content[key]


def _objects(value: Any) -> list[Record]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _problem(record: Any, before: Any) -> str:
    if not isinstance(record, dict):
        return f"is a {type(record).__name__}, not an object"
    number = record.get("id")
    if not isinstance(number, int | str):
        return "has no id"
    return f"id {str(number)[:40]!r} is there twice; the first counts" if number in before else ""
