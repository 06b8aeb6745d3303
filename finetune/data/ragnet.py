"""RAGNet's rows, from its folder as it was published (https://github.com/wudongming97/AffordanceNet, docs/dataset.md).

Training pickles are lists of dicts, most validation pickles dicts of class -> list; both shapes are read from either.
HANDAL has no pickle: its rows are the pictures of its own folders. No picture is opened.

    ROOT/{openx,graspnet,egoobjects,rlbench}_train.pkl, *_reasoning_train.pkl, *_val.pkl
    ROOT/HANDAL/without_depth/handal_dataset_<class>/{train,test}/*/rgb/*.jpg and mask_parts/*_000000_handle.png
    ROOT/{openx,graspnet,egoobjects,rlbench,3doi}/...
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.finetune.data.entries import DataSet, Entry, missing_words
from affordagent.finetune.data.pickles import load_plain
from affordagent.finetune.data.questions import AFFORDANCE, AFFORDANCE_VAL, ask
from affordagent.finetune.data.schema import Kind, Sample

FOLDERS = frozenset({"HANDAL", "openx", "graspnet", "egoobjects", "rlbench", "3doi", "lisa_data"})
HANDAL = "HANDAL/without_depth"
BROKEN_PICTURE = "EK_frame_0000040462.jpg"  # of 3DOI; the published evaluation leaves it out: 1,012 of 1,013 rows count


def flip_codes(sample: Sample) -> tuple[int, ...]:
    """OpenCV flip codes, one of which may be drawn, for half of the time, in training; () for most rows: never.

    The published rule: in RLBench targets, jars and buttons look alike from all sides, drawers from left and right.
    """
    category = sample.category or ""
    if sample.source != "rlbench":
        return ()
    if any(word in category for word in ("target", "jar", "button")):
        return (-1, 0, 1)
    return (1,) if "drawer" in category else ()


def rebased(path: str, root: str) -> str:
    """A pickle's path, e.g. "./data/openx/images/x.png", below `root`: what stands before the set's folder goes."""
    parts = path.replace("\\", "/").split("/")
    first = next((i for i, part in enumerate(parts) if part in FOLDERS), None)
    return os.path.normpath(os.path.join(root, path if first is None else "/".join(parts[first:])))


def _pickled(file: str, source: str, split: str, kind: Kind, root: Path, seed: int) -> Iterator[Entry]:
    rng = np.random.default_rng(seed)
    content = load_plain(root / file)
    rows: Iterable[tuple[str, Any]]
    if isinstance(content, dict):
        rows = _from_lists(content, file)
    elif isinstance(content, list):
        rows = ((f"{file}, row {i}", record) for i, record in enumerate(content))
    else:
        yield Entry(file, None, f"holds a {type(content).__name__}, not a list of dicts or a dict of lists")
        return
    folder = os.path.abspath(root)
    keys: tuple[str, ...] = ("frame_path", "mask_path", "task_object_class")
    if kind != "template":
        keys += ("question", "answer")
    for where, record in rows:
        problem = record if isinstance(record, str) else missing_words(record, keys)
        label = None if problem else record.get("graspnet_object_id")
        if not problem and label is not None and not isinstance(label, int):
            problem = f"graspnet_object_id is {label!r}, not a whole number"
        if problem:
            yield Entry(where, None, problem)
        elif not record["frame_path"].endswith(BROKEN_PICTURE):
            yield Entry(where, _sample(record, label, folder, source, split, kind, rng))


def _sample(
    record: dict[str, Any],
    label: int | None,
    folder: str,
    source: str,
    split: str,
    kind: Kind,
    rng: np.random.Generator,
) -> Sample:
    category = record["task_object_class"].strip()
    return Sample(
        image=rebased(record["frame_path"], folder),
        text=_question(category, split, rng) if kind == "template" else record["question"].strip(),
        mask=rebased(record["mask_path"], folder),
        mask_label=label,
        answer=None if kind == "template" else record["answer"].strip(),
        category=category,
        kind=kind,
        source=source,
        split=split,
    )


def _from_lists(content: dict[str, Any], file: str) -> Iterator[tuple[str, Any]]:
    """Rows of {"images": {class: [...]}, "labels": ..., "class_names": ..., "class_ids": ... (GraspNet alone)}; a text
    instead of a row says what is wrong."""
    for key in ("images", "labels", "class_names"):
        if not isinstance(content.get(key), dict):
            yield file, f"no dict of lists under '{key}'"
            return
    for name, images in content["images"].items():
        where = f"{file}, class '{name}'"
        lists = {key: content[key].get(name) for key in ("labels", "class_names")}
        lists["class_ids"] = content["class_ids"].get(name) if "class_ids" in content else [None] * len(images)
        wrong = [key for key, values in lists.items() if not isinstance(values, list) or len(values) != len(images)]
        if wrong:
            yield where, f"'{wrong[0]}' is not a list as long as 'images' ({len(images)})"
            continue
        for i, values in enumerate(zip(images, *lists.values(), strict=True)):
            keys = ("frame_path", "mask_path", "task_object_class", "graspnet_object_id")
            yield f"{where}, row {i}", dict(zip(keys, values, strict=True))


def _question(category: str, split: str, rng: np.random.Generator) -> str:
    return ask(rng, AFFORDANCE, category.lower()) if split == "train" else AFFORDANCE_VAL.format(category)


def _handal(part: str, source: str, split: str, root: Path, seed: int) -> Iterator[Entry]:
    rng = np.random.default_rng(seed)
    prefix = "handal_dataset_"
    base = os.path.join(os.path.abspath(root), HANDAL)
    for folder in sorted(Path(base).iterdir()):
        if not folder.is_dir() or not folder.name.startswith(prefix):
            continue
        category = folder.name[len(prefix) :].replace("_", " ")
        for video in sorted((folder / part).glob("*/rgb")):
            masks = os.path.join(video.parent, "mask_parts")
            for name in sorted(n for n in os.listdir(video) if n.endswith(".jpg")):
                image = os.path.join(video, name)
                mask = os.path.join(masks, f"{name[:-4]}_000000_handle.png")
                yield Entry(
                    f"{source}, {image[len(base) + 1 :]}",
                    Sample(
                        image=image,
                        text=_question(category, split, rng),
                        mask=mask,
                        category=category,
                        source=source,
                        split=split,
                    ),
                )


def _from_pickle(file: str, source: str, split: str, kind: Kind = "template") -> DataSet:
    return DataSet(file, f"{file}.pkl", partial(_pickled, f"{file}.pkl", source, split, kind))


SETS = (
    DataSet("handal_train", HANDAL, partial(_handal, "train", "handal", "train")),
    _from_pickle("openx_train", "openx", "train"),
    _from_pickle("graspnet_train", "graspnet", "train"),
    _from_pickle("egoobjects_train", "egoobjects", "train"),
    _from_pickle("rlbench_train", "rlbench", "train"),
    _from_pickle("handal_hard_reasoning_train", "handal", "train", "hard"),
    _from_pickle("egoobjects_easy_reasoning_train", "egoobjects", "train", "easy"),
    _from_pickle("egoobjects_hard_reasoning_train", "egoobjects", "train", "hard"),
    DataSet("handal_all_val", HANDAL, partial(_handal, "test", "handal_all", "val")),
    _from_pickle("handal_mini_val", "handal_mini", "val"),
    _from_pickle("graspnet_test_seen_val", "graspnet_test_seen", "val"),
    _from_pickle("graspnet_test_novel_val", "graspnet_test_novel", "val"),
    _from_pickle("3doi_val", "3doi", "val"),
    _from_pickle("handal_easy_reasoning_val", "handal_mini", "val", "easy"),
    _from_pickle("handal_hard_reasoning_val", "handal_mini", "val", "hard"),
    _from_pickle("3doi_easy_reasoning_val", "3doi", "val", "easy"),
)
