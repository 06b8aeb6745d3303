"""EgoObjects: things in the videos of head-worn cameras, with boxes.

Source: https://github.com/facebookresearch/EgoObjects (the format of LVIS with `video_id` on images and `instance_id`
on annotations, which may lack a category; MIT licence).

    [data/]EgoObjectsV1_unified_{train,eval}.json, EgoObjectsV1_unified_metadata.json
    [data/]images/<name of the picture>
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.schema import Rejected
from affordagent.finetune.data.sources.coco import Annotated, annotated
from affordagent.finetune.data.sources.found import MALFORMED, Found, Take, inside, object_of, read_json, reason_of

LICENCE = "MIT"
URL = "https://github.com/facebookresearch/EgoObjects"


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each annotated box; a video stays in one split.

    Raises:
        AffordAgentError: there is no JSON of the set.
    """
    root = folder / "data" if (folder / "data").is_dir() else folder
    files = sorted(root.glob("EgoObjects*.json"))
    if not files:
        raise AffordAgentError(f"{folder} holds no EgoObjects*.json, and neither does its folder data")
    names: dict[Any, str] = {}
    for file in [f for f in files if "metadata" in f.name]:
        try:
            listed = object_of(read_json(inside(root, file.name)), file.name)["cat_det_cats"]
            names |= {one["id"]: str(one["name"])[:200] for one in listed}
        except MALFORMED as error:
            yield Rejected(file.name, reason_of(error))
    places = ("images", "", "EgoObjectsV1_images")
    for file in [f for f in files if "metadata" not in f.name]:
        given = Annotated(file, root, "egoobjects", LICENCE, URL, places, "video_id", names)
        yield from annotated(given, take)
