"""Tiny folders in the layouts that the sources of data are published in."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path

import cv2
import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

H, W = 48, 64


def scene(seed: int, size: tuple[int, int] = (H, W)) -> np.ndarray:
    """(H, W, 3) uint8: blocks of colour that differ from seed to seed."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_CUBIC)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (H, W)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(seed, size)).save(path)


def encoded(seed: int = 0, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene(seed)).save(file, kind)
    return file.getvalue()


def labels(path: Path, boxes: dict[int, tuple[int, int, int, int]]) -> None:
    """A grey picture with value -> (x0, y0, x1, y1) filled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = np.zeros((H, W), np.uint8)
    for value, (x0, y0, x1, y1) in boxes.items():
        out[y0:y1, x0:x1] = value
    Image.fromarray(out).save(path)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def handal(root: Path) -> Path:
    """Two pictures of a scene; the second one's handle is hidden."""
    scene = root / "handal_dataset_measuring_cups/test/000001"
    for i in range(2):
        picture(scene / f"rgb/{i:06d}.jpg", i)
        labels(scene / f"mask_visib/{i:06d}_000000.png", {255: (5, 5, 30, 30)})
    labels(scene / "mask_parts/000000_000000_handle.png", {255: (6, 6, 12, 20)})
    camera = {"cam_K": [50.0, 0, 32, 0, 51.0, 24, 0, 0, 1], "depth_scale": 0.1, "resolution": [W, H]}
    write_json(scene / "scene_camera.json", {"0": camera, "1": camera})
    write_json(scene / "scene_gt_info.json", {str(i): [{"bbox_visib": [5, 5, 25, 25]}] for i in range(2)})
    return scene


def graspnet(root: Path) -> Path:
    camera = root / "scenes/scene_0100/realsense"
    for i in range(2):
        picture(camera / f"rgb/{i:04d}.png", i)
        labels(camera / f"label/{i:04d}.png", {1: (2, 2, 20, 20), 6: (30, 10, 60, 40)})
        labels(camera / f"depth/{i:04d}.png", {200: (0, 0, W, H)})
    np.save(camera / "camK.npy", np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]))
    write_json(root / "object_names.json", {"0": "mug", "5": "banana"})
    return camera


def coco(root: Path, name: str = "instances_val2017.json") -> dict:
    """Three things in two pictures: a polygon, run lengths, and a crowd."""
    content = {
        "licenses": [{"id": 4, "name": "Attribution License"}],
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": W, "height": H, "license": 4} for i in (1, 2)],
        "categories": [{"id": 7, "name": "cup"}, {"id": 8, "name": "banana"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 7,
                "bbox": [4, 4, 20, 10],
                "segmentation": [[4, 4, 24, 4, 24, 14, 4, 14]],
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 2,
                "category_id": 8,
                "bbox": [0, 0, 2, 48],
                "segmentation": {"size": [H, W], "counts": [0, 96, H * W - 96]},
            },
            {
                "id": 3,
                "image_id": 2,
                "category_id": 8,
                "bbox": [0, 0, 9, 9],
                "segmentation": {"size": [H, W], "counts": [0, 1, H * W - 1]},
                "iscrowd": 1,
            },
        ],
    }
    for i in (1, 2):
        picture(root / f"val2017/{i}.jpg", i)
    write_json(root / "annotations" / name, content)
    return content


def egoobjects(root: Path) -> None:
    content = {
        "images": [
            {"id": i, "url": f"https://x.org/a/{i}.jpg", "width": W, "height": H, "video_id": "V7"} for i in (1, 2)
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "bbox": [4, 4, 20, 10], "category_id": 3, "instance_id": "a"},
            {"id": 2, "image_id": 2, "bbox": [4, 4, 20, 10], "instance_id": "b"},
        ],
    }
    write_json(root / "data/EgoObjectsV1_unified_eval.json", content)
    write_json(root / "data/EgoObjectsV1_unified_metadata.json", {"cat_det_cats": [{"id": 3, "name": "Mug"}]})
    for i in (1, 2):
        picture(root / f"data/images/{i}.jpg", i)


def rlbench(root: Path) -> Path:
    """The states of an episode are a pickle that would write a file."""
    episode = root / "train/close_jar/variation0/episodes/episode0"
    for i in range(12):
        picture(episode / f"front_rgb/{i}.png", i)
        picture(episode / f"front_mask/{i}.png", 50 + i)
    (episode.parents[1] / "variation_descriptions.pkl").write_bytes(pickle.dumps(["close the red jar", "screw it"]))
    (episode / "low_dim_obs.pkl").write_bytes(pickle.dumps(_Writes(root / "executed")))
    return episode


class _Writes:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def writes(path: Path) -> object:
    """A value whose pickle makes the file `path` when it is loaded as pickles are."""
    return _Writes(path)


def masked(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def tfrecord(*contents: bytes) -> bytes:
    out = b""
    for content in contents:
        head = struct.pack("<Q", len(content))
        out += head + masked(head) + content + masked(content)
    return out


def _varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def example(features: dict[str, list[bytes]]) -> bytes:
    """A tf.train.Example of lists of bytes, written by hand."""
    entries = b""
    for name, values in features.items():
        feature = _field(1, b"".join(_field(1, value) for value in values))
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, entries)


def openx(root: Path, described: bool = True) -> Path:
    """Two episodes of five steps."""
    folder = root / "bridge/0.1.0"
    folder.mkdir(parents=True)
    episodes = [
        example(
            {
                "steps/observation/image": [encoded(10 * e + s) for s in range(5)],
                "steps/observation/wrist_image": [encoded(99)] * 5,
                "steps/language_instruction": [f"put the pot {e} on the stove".encode()] * 5,
            }
        )
        for e in range(2)
    ]
    file = folder / "bridge-val.tfrecord-00000-of-00001"
    file.write_bytes(tfrecord(*episodes))
    if described:
        image = {"pythonClassName": "tensorflow_datasets.core.features.image_feature.Image"}
        steps = {"featuresDict": {"features": {"observation": {"featuresDict": {"features": {"image": image}}}}}}
        write_json(
            folder / "features.json", {"featuresDict": {"features": {"steps": {"sequence": {"feature": steps}}}}}
        )
    return file


def lerobot_v2(root: Path, camera: str = "observation.images.front") -> None:
    """Two episodes of four steps with their pictures in the table."""
    for e in range(2):
        cells = [{"bytes": encoded(10 * e + s, "PNG"), "path": f"{s}.png"} for s in range(4)]
        table = pa.table({camera: cells, "frame_index": list(range(4)), "episode_index": [e] * 4})
        file = root / f"data/chunk-000/episode_{e:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file)
    write_json(
        root / "meta/info.json",
        {
            "codebase_version": "v2.1",
            "fps": 5,
            "chunks_size": 1000,
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": None,
            "features": {camera: {"dtype": "image", "shape": [H, W, 3]}, "action": {"dtype": "float32", "shape": [6]}},
        },
    )
    lines = [json.dumps({"episode_index": e, "tasks": [f"task {e}"], "length": 4}) for e in range(2)]
    (root / "meta/episodes.jsonl").write_text("\n".join(lines))
    (root / "README.md").write_text("---\nlicense: apache-2.0\n---\n# a set\n")
