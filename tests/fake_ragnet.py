"""A tiny folder in the layout RAGNet was published in, every pickle and folder of it, and one of LISA's."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

H, W = 24, 32


def picture(path: Path, value: int = 120, size: tuple[int, int] = (H, W)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))


def labels(path: Path, boxes: dict[int, tuple[int, int, int, int]], size: tuple[int, int] = (H, W)) -> None:
    """A grey picture with value -> (x0, y0, x1, y1) filled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = np.zeros(size, np.uint8)
    for value, (x0, y0, x1, y1) in boxes.items():
        out[y0:y1, x0:x1] = value
    assert cv2.imwrite(str(path), out)


def dump(root: Path, name: str, content: object) -> None:
    (root / f"{name}.pkl").write_bytes(pickle.dumps(content))


def rows(root: Path, folder: str, classes: list[str], extra: dict | None = None) -> list[dict]:
    """Rows with whole pictures; paths as published, relative to the folder above."""
    out = []
    for i, name in enumerate(classes):
        image, mask = f"{folder}/images/{i}.jpg", f"{folder}/masks/{i}.png"
        picture(root / image, 50 + i)
        labels(root / mask, {255: (2, 3, 6, 8)})
        out.append({"frame_path": f"./data/{image}", "mask_path": f"./data/{mask}", "task_object_class": name})
        out[-1].update(extra or {})
    return out


def by_class(records: list[dict]) -> dict:
    """Rows in the shape of the validation pickles."""
    out: dict = {"images": {}, "labels": {}, "class_names": {}}
    keys = ("frame_path", "mask_path", "task_object_class")
    if any("graspnet_object_id" in r for r in records):
        out["class_ids"] = {}
        keys += ("graspnet_object_id",)
    for record in records:
        for part, key in zip(out, keys, strict=True):
            out[part].setdefault(record["task_object_class"], []).append(record.get(key))
    return out


def write_ragnet(root: Path) -> None:
    """Every row of it is sound: 30 rows, the broken 3DOI frame left out."""
    said = {"question": "Help me drive a nail.", "answer": "You can use the handle of the hammer."}
    openx = rows(root, "openx", ["coke can", "Coke Can", "spoon"], {"vid": "episode_7"})
    dump(root, "openx_train", openx)
    graspnet = rows(root, "graspnet", ["mug", "dragon"])
    labels(root / "graspnet/masks/0.png", {8: (2, 3, 6, 8), 9: (10, 3, 20, 20)})
    graspnet[0]["graspnet_object_id"] = 8
    dump(root, "graspnet_train", graspnet)
    dump(root, "egoobjects_train", rows(root, "egoobjects", ["kettle", "cup", "cup"]))
    dump(root, "rlbench_train", rows(root, "rlbench", ["red target", "bottom drawer", "shoe"]))
    for video in ("train/000001", "test/000002"):
        base = root / "HANDAL/without_depth/handal_dataset_fixed_joint_pliers" / video
        for frame in ("000000", "000010"):
            picture(base / f"rgb/{frame}.jpg")
            labels(base / f"mask_parts/{frame}_000000_handle.png", {255: (2, 3, 6, 8)})
    (root / "HANDAL/without_depth/handal_dataset_ladles.zip").write_bytes(b"PK")
    base = "./data/HANDAL/without_depth/handal_dataset_fixed_joint_pliers/test/000002"
    handal = {
        "frame_path": f"{base}/rgb/000000.jpg",
        "mask_path": f"{base}/mask_parts/000000_000000_handle.png",
        "task_object_class": "fixed joint pliers",
    }
    dump(root, "handal_hard_reasoning_train", [handal | said])
    dump(root, "egoobjects_easy_reasoning_train", rows(root, "egoobjects", ["kettle"], said))
    dump(root, "egoobjects_hard_reasoning_train", rows(root, "egoobjects", ["kettle", "cup"], said))
    dump(root, "handal_mini_val", by_class([handal]))
    dump(root, "handal_easy_reasoning_val", [handal | said])
    dump(root, "handal_hard_reasoning_val", [handal | said])
    seen = rows(root, "graspnet/test_seen", ["mug", "mug"], {"graspnet_object_id": None})
    labels(root / "graspnet/test_seen/masks/1.png", {5: (0, 0, 3, 3), 8: (2, 3, 6, 8)})
    seen[1]["graspnet_object_id"] = 8
    dump(root, "graspnet_test_seen_val", by_class(seen))
    dump(root, "graspnet_test_novel_val", by_class(rows(root, "graspnet/test_novel", ["lion", "tape"])))
    threedoi = rows(root, "3doi", ["door", "tap"])
    broken = {
        "frame_path": "./data/3doi/images/EK_frame_0000040462.jpg",
        "mask_path": "./data/3doi/masks/EK_frame_0000040462.png",
        "task_object_class": "door",
    }
    dump(root, "3doi_val", by_class([*threedoi, broken]))
    dump(root, "3doi_easy_reasoning_val", [r | said for r in (*threedoi, broken)])


def write_lisa(root: Path) -> None:
    """One or two of everything."""
    base = root / "lisa_data"
    picture(base / "ade20k/images/training/ADE_1.jpg")
    labels(base / "ade20k/annotations/training/ADE_1.png", {1: (0, 0, 8, 8), 150: (10, 10, 20, 20)})
    picture(base / "coco/train2017/000000000009.jpg")
    labels(base / "cocostuff/train2017/000000000009.png", {43: (0, 0, 8, 8), 95: (8, 8, 10, 10), 255: (20, 0, 30, 8)})
    picture(base / "mapillary/training/images/m.jpg")
    labels(base / "mapillary/training/v2.0/labels/m.png", {1: (0, 0, 16, 24)})
    config = {"labels": [{"readable": "Bird"}, {"readable": "Ground Animal"}]}
    (base / "mapillary/config_v2.0.json").write_text(json.dumps(config))
    square = [2, 3, 12, 3, 12, 13, 2, 13]
    write_coco(base / "vlpart/paco/annotations/paco_lvis_v1_train.json", "train2017/000000000009.jpg",
               [(1, "mug_(drinking):handle", [square]), (2, "mug_(drinking)", [square])])  # fmt: skip
    write_coco(base / "vlpart/pascal_part/train.json", "2008_1.jpg", [(1, "cat:left ear", [square])])
    picture(base / "vlpart/pascal_part/VOCdevkit/VOC2010/JPEGImages/2008_1.jpg")
    picture(base / "refer_seg/images/mscoco/images/train2014/COCO_1.jpg")
    picture(base / "refer_seg/images/saiapr_tc-12/00/1.jpg")
    for name, split_by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"), ("refclef", "unc")):
        clef = name == "refclef"
        segmentation: list = [square]
        if clef:
            rle = coco_mask.encode(np.asfortranarray(np.eye(H, W, dtype=np.uint8)))
            segmentation = [{"size": rle["size"], "counts": rle["counts"].decode()}]
        file = base / f"refer_seg/{name}/instances.json"
        write_coco(file, "00/1.jpg" if clef else "COCO_1.jpg", [(1, "person", segmentation), (2, "dog", [])])
        refs = [
            {"ref_id": 1, "ann_id": 1, "category_id": 1, "image_id": 1, "split": "train",
             "sentences": [{"sent": " Man on the LEFT", "sent_id": 1}, {"sent": "him", "sent_id": 2}]},
            {"ref_id": 2, "ann_id": 1, "category_id": 1, "image_id": 1, "split": "testA",
             "sentences": [{"sent": "man", "sent_id": 3}]},
        ]  # fmt: skip
        # Protocol 0, as Python 2 wrote it.
        (base / f"refer_seg/{name}/refs({split_by}).p").write_bytes(pickle.dumps(refs, protocol=0))
    write_reason_seg(base / "reason_seg/ReasonSeg")
    talk = [("human", "<image>\nWhat is it?"), ("gpt", "A mug."), ("human", "Which colour?"), ("gpt", "Red.")]
    items = [{"image": "000000000009.jpg", "conversations": [{"from": f, "value": v} for f, v in talk]}]
    (base / "llava_dataset").mkdir()
    (base / "llava_dataset/llava_instruct_150k.json").write_text(json.dumps(items))


def write_coco(file: Path, image: str, annotations: list[tuple[int, str, list]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": 1, "file_name": image, "height": H, "width": W}],
        "categories": [{"id": i, "name": name} for i, name, _ in annotations],
        "annotations": [{"id": i, "image_id": 1, "category_id": i, "segmentation": s} for i, _, s in annotations],
    }
    file.write_text(json.dumps(content))


def write_reason_seg(folder: Path) -> None:
    """The target is the left half, in which an "ignore" square lies."""
    shapes = [
        {"label": "ignore", "points": [[2, 2], [6, 2], [6, 6], [2, 6]]},
        {"label": "target", "points": [[0, 0], [15, 0], [15, 23], [0, 23]]},
        {"label": "flag", "points": [[0, 0], [31, 0], [31, 23]]},
    ]
    for split, texts in (("train", ["where to café?", "the place to rest"]), ("val", ["where to sit?", "unused"])):
        picture(folder / split / "1.jpg")
        content = {"shapes": shapes, "text": texts, "is_sentence": split == "train"}
        (folder / split / "1.json").write_bytes(json.dumps(content, ensure_ascii=False).encode("cp1252"))
    (folder / "explanatory").mkdir()
    explained = [{"image": "1.jpg", "query": "q", "outputs": "Because it is soft."}]
    (folder / "explanatory/train.json").write_text(json.dumps(explained))
