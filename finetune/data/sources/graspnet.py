"""GraspNet-1Billion: cluttered tables with a label picture of all things.

Source: https://graspnet.net/datasets.html, https://graspnetapi.readthedocs.io; free for research, not for commerce.

    scenes/scene_0000/object_id_list.txt
    scenes/scene_0000/{kinect,realsense}/{rgb,depth,label}/0000.png, camK.npy

A label picture holds the object's number + 1, 0 = background; depth is in millimetres. Scenes 0 to 99 are for training,
100 to 129 seen, 130 to 159 similar, 160 to 189 novel things of the test. The set names its things by numbers alone: put
`object_names.json`, {"0": "cracker box", ...}, next to `scenes` for classes and texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import box_of
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.found import (
    MALFORMED,
    Found,
    Take,
    box_json,
    camera_json,
    first_frames,
    folders_with,
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
from affordagent.finetune.data.table import load_labels

LICENCE = "graspnet.net: non-commercial research"
URL = "https://graspnet.net"
DEPTH_UNIT_M = 1e-3
MIN_VISIBLE_PX = 100
OBJECTS = 88
FIRST_OF_TEST = 100


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each thing that is seen in `take.frames_n` pictures of each scene and camera.

    Raises:
        AffordAgentError: object_names.json is broken.
    """
    names = {}
    if (folder / "object_names.json").exists():
        given = object_of(read_json(inside(folder, "object_names.json")), "object_names.json")
        names = {number: text_of(name) for number, name in given.items()}
    for camera in folders_with(folder, "rgb"):
        place = camera.relative_to(folder)
        try:
            k = _camera_matrix(folder, place)
            pictures = [p.name for p in (camera / "rgb").iterdir() if p.suffix == ".png"]
        except MALFORMED as error:
            yield Rejected(f"{place}", reason_of(error))
            continue
        for name in first_frames(pictures, take.frames_n):
            try:
                found = list(_frame(folder, place, name, k, names, take))
            except MALFORMED as error:
                yield Rejected(f"{place}/{name}", reason_of(error))
            else:
                yield from found


def _frame(
    root: Path, place: Path, name: str, k: NDArray[np.float64], names: dict[str, str], take: Take
) -> Iterator[Found]:
    image, label = inside(root, place / "rgb" / name), inside(root, place / "label" / name)
    labels = load_labels(str(label))
    if labels.ndim != 2:
        raise AffordAgentError(f"label picture {label.name} has {labels.shape[2]} channels; it must have one")
    scene = _scene_number(place)
    depth = place / "depth" / name
    for value, seen in zip(*np.unique(labels, return_counts=True), strict=True):
        if value == 0 or seen < MIN_VISIBLE_PX:
            continue
        source_id = f"{place}/{Path(name).stem}/{int(value) - 1}"
        if value > OBJECTS:
            yield Rejected(source_id, f"label {int(value)} is none of the set's things, 1 to {OBJECTS}")
            continue
        category = names.get(str(int(value) - 1))
        whole = held_anywhere(category)
        yield Sample(
            image=str(image),
            text=question(category, source_id, take.seed),
            mask=str(label) if whole else None,
            mask_label=int(value) if whole else None,
            category=category,
            source="graspnet",
            split="train" if scene < FIRST_OF_TEST else "test",
            depth=str(inside(root, depth)) if (root / depth).exists() else None,
            depth_unit_m=DEPTH_UNIT_M if (root / depth).exists() else None,
            camera=camera_json(k[0, 0], k[1, 1], k[0, 2], k[1, 2], labels.shape),
            source_id=source_id,
            group=f"graspnet/scene_{scene:04d}",
            licence=LICENCE,
            provenance=provenance(url=URL, scene=scene, camera=place.name, frame=Path(name).stem),
            part=part_of(category),
            box=box_json(*box_of(labels == value)),
            object_mask=str(label),
            object_label=int(value),
            status="labelled" if whole else "unlabelled",
            tool="original" if whole else None,
            tool_reason=f"a {category} is held anywhere: the set's own mask of the whole thing" if whole else None,
        )


def _camera_matrix(root: Path, place: Path) -> NDArray[np.float64]:
    try:
        k = np.load(inside(root, place / "camK.npy"), allow_pickle=False)
    except (SyntaxError, TokenError) as error:  # of a header that is no Python literal
        raise AffordAgentError("camK.npy has no header that can be read") from error
    if k.shape != (3, 3) or not np.issubdtype(k.dtype, np.floating) or not np.isfinite(k).all():
        raise AffordAgentError(f"camK.npy is {k.shape} {k.dtype}, not a 3x3 matrix of finite numbers")
    return np.asarray(k, np.float64)


def _scene_number(place: Path) -> int:
    found = re.search(r"scene_(\d{4})\b", place.as_posix())
    if not found:
        raise AffordAgentError(f"{place} is not below a folder scene_0000 to scene_0189")
    return int(found[1])
