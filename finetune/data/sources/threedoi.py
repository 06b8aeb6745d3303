"""3DOI: things in everyday pictures, the point to touch them at, and the mask of what moves.

Source: https://github.com/JasonQSY/3DOI (3doi/monoarti/dataset.py), https://jasonqsy.github.io/3DOI. Pictures are from
Articulation, EPIC-KITCHENS and Omnidata, each with a licence of its own.

    [3doi_v1/]data_{train,val,test}.pt or .pth     list of {"img_name", "instances": [...]}
    images/<img_name>

An instance has `bbox` [x0, y0, x1, y1], `mask` (a polygon), `keypoint` and `affordance` (points), all as shares of
width and height, negative where there is none, and `movable`, `rigid`, `kinematic`, `pull_or_push` in words. The
files are pickles of PyTorch; only plain lists, dicts, texts, numbers and tensors in them are read.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.pictures import opened, upright_size
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.coco import polygon_rle
from affordagent.finetune.data.sources.found import (
    MALFORMED,
    Found,
    Take,
    attempt,
    box_json,
    inside,
    object_of,
    provenance,
    reason_of,
    split_named,
    text_of,
)

URL = "https://jasonqsy.github.io/3DOI"
BROKEN_PICTURE = "EK_frame_0000040462.jpg"  # as the published evaluation of RAGNet leaves it out
MAX_BYTES = 1 << 30


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each instance; its class is not said.

    Raises:
        AffordAgentError: there is no data_*.pt or .pth.
    """
    files = sorted(f for f in folder.glob("**/data_*") if f.suffix in (".pt", ".pth"))
    if not files:
        raise AffordAgentError(f"{folder} holds no data_train.pt, data_val.pt or data_test.pt (or .pth)")
    for file in files:
        try:
            entries = _load(inside(folder, file.relative_to(folder)))
        except MALFORMED as error:
            yield Rejected(file.name, reason_of(error))
            continue
        for i, entry in enumerate(entries):
            yield from _entry(folder, file, i, entry, take)


def _entry(root: Path, file: Path, i: int, entry: Any, take: Take) -> Iterator[Found]:
    where = f"{file.stem}/{i}"
    try:
        name = text_of(object_of(entry, "an entry")["img_name"])
        image = _picture(root, name)
        if Path(name).name == BROKEN_PICTURE:
            raise AffordAgentError("is broken in the published set")
        with opened(str(image)) as picture:
            size = upright_size(picture)
        instances = list(entry["instances"])
    except MALFORMED as error:
        yield Rejected(where, reason_of(error))
        return
    for number, instance in enumerate(instances):
        source_id = f"{file.stem}/{name}/{number}"
        yield attempt(source_id, _row, image, size, instance, source_id, name, file, take)


def _row(
    image: Path, size: tuple[int, int], instance: Any, source_id: str, name: str, file: Path, take: Take
) -> Sample:
    height, width = size
    thing = object_of(instance, "an instance")
    x0, y0, x1, y1 = (float(n) for n in thing["bbox"])
    polygon = [float(n) for point in thing.get("mask") or [] for n in point]
    touch = [float(n) for n in thing.get("affordance") or []]
    shown = len(touch) == 2 and all(0 <= n <= 1 for n in touch)
    words = {key: text_of(thing[key]) for key in ("movable", "rigid", "kinematic", "pull_or_push") if key in thing}
    scaled = [[n * (width, height)[i % 2] for i, n in enumerate(polygon)]]
    return Sample(
        image=str(image),
        text="",
        source="3doi",
        split=split_named(file.stem),
        source_id=source_id,
        group=f"3doi/{name}",
        licence=take.licence,
        provenance=provenance(
            url=URL, file=name, touch_px=[touch[0] * width, touch[1] * height] if shown else None, **words
        ),
        box=box_json(x0 * width, y0 * height, x1 * width, y1 * height, size) if not x0 < 0 else None,
        object_rle=polygon_rle(scaled, size) if polygon else None,
        status="unlabelled",
    )


def _picture(root: Path, name: str) -> Path:
    try:
        return inside(root, Path("images") / name)
    except AffordAgentError:
        return inside(root, name)


def _load(file: Path) -> list[Any]:
    if file.stat().st_size > MAX_BYTES:
        raise AffordAgentError(f"has {file.stat().st_size} bytes, the limit is {MAX_BYTES}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise AffordAgentError(f"is not read: {str(error).splitlines()[0][:200] if str(error) else error!r}") from error
    if not isinstance(content, list):
        raise AffordAgentError(f"holds a {type(content).__name__}, not a list of entries")
    return content
