"""The general data of the published training (LISA's: https://github.com/dvlab-research/LISA#training-data-preparation),
as rows of the same schema.

    ROOT/lisa_data (or ROOT itself)/{ade20k,coco,cocostuff,llava_dataset,mapillary,reason_seg,refer_seg,vlpart}

A row is one question about one picture: a class that is in it, a part, a sentence that refers to a thing. Polygons
become `mask_rle`. To know which classes are in a picture, the label pictures of ADE20K, COCO-Stuff and Mapillary are
opened at conversion, and the sizes of ReasonSeg's pictures are read from their headers; no other picture is opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask
from affordagent.finetune.data.entries import DataSet, Entry, missing_words
from affordagent.finetune.data.pickles import load_plain
from affordagent.finetune.data.pictures import PICTURE_ERRORS, upright_size
from affordagent.finetune.data.questions import (
    EXPLANATION,
    SEGMENTATION,
    SEGMENTATION_VAL,
    SENTENCE,
    SENTENCE_VAL,
    ask,
)
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Kind, Sample
from affordagent.finetune.data.table import IGNORED_LABEL, load_labels

PACO = "vlpart/paco/annotations/paco_lvis_v1_train.json"
PASCAL = "vlpart/pascal_part/train.json"
PASCAL_IMAGES = "vlpart/pascal_part/VOCdevkit/VOC2010/JPEGImages"
COCO_2014 = "mscoco/images/train2014"
Names = dict[int, str]  # label in the picture -> class


def _ade20k(root: Path) -> tuple[Names, Iterator[tuple[Path, Path]]]:
    """Labels count from 1; 0 is nothing."""
    names = dict(enumerate(_classes("ade20k"), start=1))
    images = sorted((root / "ade20k/images/training").glob("*.jpg"))
    labels = root / "ade20k/annotations/training"
    return names, ((image, labels / f"{image.stem}.png") for image in images)


def _cocostuff(root: Path) -> tuple[Names, Iterator[tuple[Path, Path]]]:
    """Labels count from 0. As published, classes with a dash (wall-other, ...) are left out."""
    names = {i: name for i, name in enumerate(_classes("cocostuff")) if "-" not in name}
    labels = sorted((root / "cocostuff/train2017").glob("*.png"))
    images = root / "coco/train2017"
    return names, ((images / f"{label.stem}.jpg", label) for label in labels)


def _mapillary(root: Path) -> tuple[Names, Iterator[tuple[Path, Path]]]:
    """Labels count from 0 in the order of the configuration file (version 2.0)."""
    config = _json(root / "mapillary/config_v2.0.json")
    names = {i: label["readable"].lower() for i, label in enumerate(config["labels"])}
    labels = sorted((root / "mapillary/training/v2.0/labels").glob("*.png"))
    images = root / "mapillary/training/images"
    return names, ((images / f"{label.stem}.jpg", label) for label in labels)


def _semantic(
    source: str,
    pairs: Callable[[Path], tuple[Names, Iterator[tuple[Path, Path]]]],
    root: Path,
    seed: int,
) -> Iterator[Entry]:
    """A row for each class that a picture's labels hold."""
    rng = np.random.default_rng(seed)
    names, files_ = pairs(lisa_root(root))
    for image, label in files_:
        try:
            values = load_labels(str(label))
        except AffordAgentError as error:
            yield Entry(f"{source}, {label.name}", None, str(error))
            continue
        if values.ndim != 2:
            yield Entry(f"{source}, {label.name}", None, f"{label} has {values.shape[2]} channels, labels have one")
            continue
        present = np.flatnonzero(np.bincount(values.reshape(-1))).tolist()
        for value in present:
            if value not in names or value == IGNORED_LABEL:
                continue
            yield Entry(
                f"{source}, {label.name}, label {value}",
                Sample(
                    image=str(image),
                    text=ask(rng, SEGMENTATION, names[value].lower()),
                    mask=str(label),
                    mask_label=value,
                    category=names[value],
                    kind="semantic",
                    source=source,
                    split="train",
                ),
            )


def _parts(source: str, annotation_file: str, images: str, root: Path, seed: int) -> Iterator[Entry]:
    """PACO-LVIS and PASCAL-Part: a row for each annotated thing or part."""
    rng = np.random.default_rng(seed)
    root = lisa_root(root)
    pictures, categories, annotations = _coco(root / annotation_file)
    names = {number: _thing_and_part(category["name"]) for number, category in categories.items()}
    for annotation in annotations.values():
        where = f"{annotation_file}, annotation {annotation['id']}"
        if annotation["image_id"] not in pictures or annotation["category_id"] not in names:
            yield Entry(where, None, f"no image {annotation['image_id']} or category {annotation['category_id']}")
            continue
        picture = pictures[annotation["image_id"]]
        thing, part = names[annotation["category_id"]]
        if part is None:
            name = thing
        else:
            name = f"{thing} {part}" if rng.random() < 0.5 else f"the {part} of the {thing}"
        yield _with_mask(
            where,
            annotation["segmentation"],
            picture,
            Sample(
                image=str(root / images / picture["file_name"]),
                text=ask(rng, SEGMENTATION, name.lower()),
                category=thing if part is None else f"{thing} {part}",
                kind="semantic",
                source=source,
                split="train",
            ),
        )


def _thing_and_part(name: str) -> tuple[str, str | None]:
    """ "mug_(drinking):handle" -> ("mug", "handle"); the thing alone has no part."""
    thing, _, part = name.strip().partition(":")
    return thing.split("_(")[0], part.split("_(")[0] or None


def _referring(source: str, split_by: str, images: str, root: Path, seed: int) -> Iterator[Entry]:
    """refCOCO and its kin: a row for each sentence. testA, testB and test are all "test"."""
    rng = np.random.default_rng(seed)
    root = lisa_root(root) / "refer_seg"
    file = root / source / f"refs({split_by}).p"
    pictures, categories, annotations = _coco(root / source / "instances.json")
    refs = load_plain(file)
    if not isinstance(refs, list):
        raise AffordAgentError(f"{file} holds a {type(refs).__name__}, not a list")
    for number, ref in enumerate(refs):
        where = f"{source}/{file.name}, ref {number}"
        problem = missing_words(ref, ("split",))
        if not problem and (ref.get("image_id") not in pictures or ref.get("ann_id") not in annotations):
            problem = f"image {ref.get('image_id')} or annotation {ref.get('ann_id')} is not in instances.json"
        if problem:
            yield Entry(where, None, problem)
            continue
        picture, annotation = pictures[ref["image_id"]], annotations[ref["ann_id"]]
        split = ref["split"] if ref["split"] in ("train", "val") else "test"
        category = categories.get(ref.get("category_id"))
        for sentence in ref.get("sentences", ()):
            words = sentence["sent"].strip().lower()
            text = ask(rng, SEGMENTATION, words) if split == "train" else SEGMENTATION_VAL.format(words)
            sample = Sample(
                image=str(root / "images" / images / picture["file_name"]),
                text=text,
                category=category["name"] if category else None,
                kind="referring",
                source=source,
                split=split,
            )
            yield _with_mask(where, annotation["segmentation"], picture, sample)


def _reasoning(root: Path, seed: int) -> Iterator[Entry]:
    """ReasonSeg. As published, a training question about a picture with an explanation asks for the mask (.45), for the
    mask and the reason (.45) or for an answer in words (.1); each row has one of these."""
    rng = np.random.default_rng(seed)
    folder = lisa_root(root) / "reason_seg/ReasonSeg"
    explained = {item["image"]: item["outputs"] for item in _json(folder / "explanatory/train.json")}
    for split in ("train", "val"):
        for image in sorted((folder / split).glob("*.jpg")):
            where = f"reason_seg, {split}/{image.stem}.json"
            try:
                content = _json(image.with_suffix(".json"))
                texts, is_sentence = content["text"], content["is_sentence"]
                with Image.open(image) as picture:
                    mask = encode_rle(_drawn(content["shapes"], upright_size(picture)))
            except (AffordAgentError, *PICTURE_ERRORS, KeyError, cv2.error) as error:
                yield Entry(where, None, f"{type(error).__name__}: {error}")
                continue
            explanation = explained.get(image.name) if split == "train" else None
            for words in texts if split == "train" else texts[:1]:
                sample = _reasoned(str(image), mask, words.strip(), is_sentence, explanation, split, rng)
                yield Entry(where, sample)


def _reasoned(
    image: str, mask: str, words: str, is_sentence: bool, answer: str | None, split: str, rng: np.random.Generator
) -> Sample:
    kind: Kind = "reasoning"
    if answer is not None and (draw := rng.random()) < 0.55:
        if draw < 0.1:
            return Sample(image, words, answer=answer, kind="vqa", source="reason_seg", split=split)
        text = ask(rng, EXPLANATION, words)
        return Sample(image, text, mask_rle=mask, answer=answer, kind=kind, source="reason_seg", split=split)
    if split == "train":
        text = ask(rng, SENTENCE, words) if is_sentence else ask(rng, SEGMENTATION, words.lower())
    else:
        text = (SENTENCE_VAL if is_sentence else SEGMENTATION_VAL).format(words)
    return Sample(image, text, mask_rle=mask, kind=kind, source="reason_seg", split=split)


def _drawn(shapes: list[dict[str, Any]], size: tuple[int, int]) -> Mask:
    """(H, W) bool: large shapes first, "ignore" shapes rub out what they cover, "flag" shapes mean nothing."""
    layers: list[tuple[int, int, NDArray[np.int32]]] = []
    for shape in shapes:
        label = shape["label"].lower()
        if label != "flag":
            points = np.array(shape["points"], np.int32)
            layers.append((int(_filled(np.zeros(size, np.uint8), points, 1).sum()), int("ignore" not in label), points))
    out = np.zeros(size, np.uint8)
    for _, value, points in sorted(layers, key=lambda layer: -layer[0]):
        _filled(out, points, value)
    return out > 0


def _filled(canvas: NDArray[np.uint8], points: NDArray[np.int32], value: int) -> NDArray[np.uint8]:
    cv2.polylines(canvas, [points], True, value, 1)
    cv2.fillPoly(canvas, [points], value)
    return canvas


def _conversations(root: Path, seed: int) -> Iterator[Entry]:
    """LLaVA-Instruct-150k: a row for each conversation."""
    root = lisa_root(root)
    file = root / "llava_dataset/llava_instruct_150k.json"
    for number, item in enumerate(_json(file)):
        where = f"{file.name}, row {number}"
        turns = item["conversations"]
        turns = turns[1:] if turns and turns[0]["from"] != "human" else turns
        says = [turn["value"].replace("<image>", "").strip() for turn in turns]
        if len(says) < 2 or any(t["from"] != ("human", "gpt")[i % 2] for i, t in enumerate(turns)):
            yield Entry(where, None, "human and gpt do not take turns")
            continue
        rounds = list(zip(says[2::2], says[3::2], strict=False))
        yield Entry(
            where,
            Sample(
                image=str(root / "coco/train2017" / item["image"]),
                text=says[0],
                answer=says[1],
                rounds=json.dumps(rounds) if rounds else None,
                kind="vqa",
                source="llava",
                split="train",
            ),
        )


def _with_mask(where: str, segmentation: Any, picture: dict[str, Any], sample: Sample) -> Entry:
    """The sample with COCO's polygons or run lengths as its `mask_rle`; nothing published (a few things of refCLEF) is
    an empty mask."""
    height, width = picture["height"], picture["width"]
    try:
        rle = coco_mask.merge(_run_lengths(segmentation, height, width))
    except (ValueError, TypeError, KeyError) as error:
        return Entry(where, None, f"its segmentation is broken: {error}")
    if not rle:
        return Entry(where, replace(sample, mask_rle=encode_rle(np.zeros((height, width), bool))))
    text = json.dumps({"size": [height, width], "counts": rle["counts"].decode("ascii")})
    return Entry(where, replace(sample, mask_rle=text))


def _run_lengths(segmentation: Any, height: int, width: int) -> list[dict[str, Any]]:
    """COCO's three forms: polygons, one run-length encoding, or a list of those."""
    if isinstance(segmentation, dict):
        segmentation = [segmentation]
    polygons = [p for p in segmentation if isinstance(p, list) and len(p) >= 6]
    loose = [r for r in segmentation if isinstance(r, dict) and isinstance(r["counts"], list)]
    packed = [r for r in segmentation if isinstance(r, dict) and not isinstance(r["counts"], list)]
    encoded = coco_mask.frPyObjects(polygons, height, width) if polygons else []
    return encoded + [coco_mask.frPyObjects(r, height, width) for r in loose] + packed


def _coco(file: Path) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
    """Images, categories and annotations of a COCO file, by id."""
    content = _json(file)
    for key in ("images", "categories", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise AffordAgentError(f"{file} has no list of '{key}'; it should be in COCO's format")
    images, categories, annotations = (
        {item["id"]: item for item in content[key]} for key in ("images", "categories", "annotations")
    )
    return images, categories, annotations


@cache
def _classes(source: str) -> tuple[str, ...]:
    text = files("affordagent.finetune.data").joinpath("label_classes.json").read_text(encoding="utf-8")
    return tuple(json.loads(text)[source])


def _json(file: Path) -> Any:
    """UTF-8, or the Windows code page of some of ReasonSeg's files.

    Raises:
        AffordAgentError: missing or not JSON.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise AffordAgentError(f"cannot read {file}: {error.strerror or error}") from error
    try:
        try:
            return json.loads(content.decode("utf-8"))
        except UnicodeDecodeError:
            return json.loads(content.decode("cp1252"))
    except ValueError as error:
        raise AffordAgentError(f"{file} is not JSON: {error}") from error


def lisa_root(root: Path) -> Path:
    """Absolute: `root`/lisa_data if that is there, else `root`."""
    inner = root.absolute() / "lisa_data"
    return inner if inner.is_dir() else root.absolute()


SETS = (
    DataSet("ade20k", "ade20k", partial(_semantic, "ade20k", _ade20k)),
    DataSet("cocostuff", "cocostuff", partial(_semantic, "cocostuff", _cocostuff)),
    DataSet("mapillary", "mapillary", partial(_semantic, "mapillary", _mapillary)),
    DataSet("paco_lvis", PACO, partial(_parts, "paco_lvis", PACO, "coco")),
    DataSet("pascal_part", PASCAL, partial(_parts, "pascal_part", PASCAL, PASCAL_IMAGES)),
    DataSet("refclef", "refer_seg/refclef", partial(_referring, "refclef", "unc", "saiapr_tc-12")),
    DataSet("refcoco", "refer_seg/refcoco", partial(_referring, "refcoco", "unc", COCO_2014)),
    DataSet("refcoco+", "refer_seg/refcoco+", partial(_referring, "refcoco+", "unc", COCO_2014)),
    DataSet("refcocog", "refer_seg/refcocog", partial(_referring, "refcocog", "umd", COCO_2014)),
    DataSet("llava", "llava_dataset/llava_instruct_150k.json", _conversations),
    DataSet("reason_seg", "reason_seg/ReasonSeg", _reasoning),
)
