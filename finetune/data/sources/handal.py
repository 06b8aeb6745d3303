"""HANDAL: kitchen and hardware tools with the masks of their handles.

Source: https://github.com/NVlabs/HANDAL (README: BOP's scenewise format, JPEG pictures, size in scene_camera.json;
CC BY-NC-SA 4.0) and https://github.com/thodan/bop_toolkit/blob/master/docs/bop_datasets_format.md. Handle masks as
https://github.com/wudongming97/AffordanceNet reads them.

    .../handal_dataset_<class>/{train,test}/<scene>/
        rgb/000000.jpg
        mask_parts/000000_000000_handle.png      <picture>_<thing>_handle: the part
        mask_visib/ or mask/000000_000000.png    the whole thing
        scene_gt_info.json, scene_camera.json, depth/000000.png      where they are there
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.found import (
    MALFORMED,
    Found,
    Take,
    attempt,
    box_json,
    camera_json,
    first_frames,
    folders_with,
    inside,
    object_of,
    provenance,
    question,
    read_json,
    reason_of,
)

LICENCE = "CC-BY-NC-SA-4.0"
URL = "https://github.com/NVlabs/HANDAL"
PREFIX = "handal_dataset_"
HANDLE = "_handle.png"
DEPTH_M = 1e-3  # BOP: depth_scale gives millimetres


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each thing with a mask, of `take.frames_n` pictures of each scene."""
    for scene in folders_with(folder, "rgb"):
        yield from _scene(folder, scene.relative_to(folder), take)


def _scene(root: Path, scene: Path, take: Take) -> Iterator[Found]:
    facts: dict[str, dict[str, Any]] = {}
    for name in ("scene_gt_info", "scene_camera"):
        try:
            there = (root / scene / f"{name}.json").exists()
            facts[name] = object_of(read_json(inside(root, scene / f"{name}.json")), name) if there else {}
        except MALFORMED as error:
            yield Rejected(f"{scene}/{name}.json", reason_of(error))
            facts[name] = {}
    handles = _things(root / scene, "mask_parts", HANDLE)
    wholes: dict[tuple[str, str], str] = {}
    for masks in ("mask", "mask_visib"):  # what is seen counts more
        wholes |= {key: f"{masks}/{name}" for key, name in _things(root / scene, masks, ".png").items()}
    pictures = [n for n in os.listdir(root / scene / "rgb") if n.endswith((".jpg", ".png"))]
    for name in first_frames(pictures, take.frames_n):
        image = Path(name).stem
        things = sorted({thing for key in (*handles, *wholes) for picture, thing in [key] if picture == image})
        if not things:
            yield Rejected(f"{scene}/rgb/{name}", "has no mask in mask_parts, mask_visib or mask")
        for thing in things:
            handle, whole = handles.get((image, thing)), wholes.get((image, thing))
            source_id = f"{scene}/{image}/{thing}"
            sample = Sample(
                image=str(scene / "rgb" / name),
                text="",
                mask=None if handle is None else str(scene / "mask_parts" / handle),
                object_mask=None if whole is None else str(scene / whole),
                status="unlabelled" if handle is None else "labelled",
                source="handal",
                source_id=source_id,
                group=f"handal/{scene}",
            )
            yield attempt(source_id, _with_facts, root, scene, sample, thing, facts, take)


def _with_facts(
    root: Path, scene: Path, sample: Sample, thing: str, facts: dict[str, dict[str, Any]], take: Take
) -> Sample:
    frame = Path(sample.image).stem
    category = _category((root / scene).absolute())
    camera, size = facts["scene_camera"].get(str(int(frame)), {}), None
    fields: dict[str, Any] = {}
    if "resolution" in camera:
        width, height = (int(n) for n in camera["resolution"])
        size = (height, width)
        k = camera["cam_K"]
        fields["camera"] = camera_json(k[0], k[4], k[2], k[5], size)
    info = facts["scene_gt_info"].get(str(int(frame)))
    if info is not None:
        x, y, width, height = info[int(thing)]["bbox_visib"]
        fields["box"] = box_json(x, y, x + width, y + height, size)
    if (root / scene / "depth" / f"{frame}.png").exists():
        fields["depth"] = str(inside(root, scene / "depth" / f"{frame}.png"))
        fields["depth_unit_m"] = float(camera.get("depth_scale", 1.0)) * DEPTH_M
    return replace(
        sample,
        image=str(inside(root, sample.image)),
        mask=None if sample.mask is None else str(inside(root, sample.mask)),
        object_mask=None if sample.object_mask is None else str(inside(root, sample.object_mask)),
        text=question(category, str(sample.source_id), take.seed),
        category=category,
        part="handle",
        split="test" if scene.parent.name == "test" else "train",
        licence=LICENCE,
        provenance=provenance(url=URL, scene=scene.as_posix(), frame=int(frame), thing=int(thing)),
        tool="original" if sample.mask else None,
        tool_reason="HANDAL's own mask of the handle" if sample.mask else None,
        **fields,
    )


def _things(scene: Path, masks: str, ending: str) -> dict[tuple[str, str], str]:
    """(picture, thing) -> file of the masks `<picture>_<thing><ending>`."""
    names = os.listdir(scene / masks) if (scene / masks).is_dir() else []
    keys = {name: name.removesuffix(ending).split("_") for name in names if name.endswith(ending)}
    return {(key[0], key[1]): name for name, key in keys.items() if len(key) == 2 and all(map(str.isdigit, key))}


def _category(scene: Path) -> str | None:
    names = [part.removeprefix(PREFIX) for part in scene.parts if part.startswith(PREFIX)]
    return names[-1].replace("_", " ") if names else None
