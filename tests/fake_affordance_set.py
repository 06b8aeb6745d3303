"""A tiny labelled set in the rendered sets' format, drawn with OpenCV: blobs with a bar as handle on a flat table."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from affordagent.core.camera import CameraIntrinsics

CAMERA = CameraIntrinsics(320, 240, 300.0, 300.0, 160.0, 120.0)
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (30, 60, 200)}
TABLE_Z_M = 0.8  # the camera looks straight down


def write_fake_set(folder: Path, count: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "shard_0000.jsonl").open("w") as shard:
        for number in range(count):
            name = f"{number:05d}"
            color = np.full((240, 320, 3), rng.integers(90, 200, 3), np.uint8)
            labels = np.zeros((240, 320), np.uint8)
            depth_m = np.full((240, 320), TABLE_Z_M, np.float32)
            things = []
            for slot, (category, colour) in enumerate(
                zip(("mug", "hammer", "ball"), rng.permutation(list(COLOURS)), strict=True)
            ):
                x, y = 60 + 100 * slot + int(rng.integers(-8, 8)), int(rng.integers(70, 170))
                _draw(color, labels, depth_m, slot, category, COLOURS[colour], (x, y))
                held = 1 if category == "ball" else 2
                things.append(
                    {
                        "slot": slot, "category": category, "instance": f"{category}-{number}", "colour": str(colour),
                        "part": "body" if category == "ball" else "handle", "parts": ["body", "handle"][:held],
                        "part_index": held, "visible_px": int(((labels > 0) & (labels // 8 == slot)).sum()),
                        "part_px": int((labels == slot * 8 + held).sum()), "box": [x - 30, y - 30, x + 30, y + 30],
                        "T_base_object": np.eye(4).tolist(),
                    }
                )  # fmt: skip
            cv2.circle(labels, (20, 20), 14, 255, -1)
            cv2.circle(color, (20, 20), 14, (90, 90, 20), -1)
            cv2.imwrite(str(folder / "images" / f"{name}_color.jpg"), color[..., ::-1])
            cv2.imwrite(str(folder / "images" / f"{name}_depth.png"), np.round(depth_m * 1e4).astype(np.uint16))
            cv2.imwrite(str(folder / "images" / f"{name}_labels.png"), labels)
            camera = {k: getattr(CAMERA, k) for k in ("width", "height", "fx", "fy", "cx", "cy")}
            row = {
                "id": name, "split": "train", "seed": seed, "camera": camera, "T_base_camera": np.eye(4).tolist(),
                "plane_camera": [0.0, 0.0, -1.0, TABLE_Z_M], "objects": things,
            }  # fmt: skip
            shard.write(json.dumps(row) + "\n")


def _draw(color, labels, depth_m, slot, category, rgb, centre):
    x, y = centre
    shape = np.zeros(labels.shape, np.uint8)
    cv2.circle(shape, centre, 16 if category != "hammer" else 8, 1, -1)
    if category != "ball":
        cv2.rectangle(shape, (x + 8, y - 3), (x + 36, y + 3), 2, -1)
    body, handle = shape == 1, shape == 2
    labels[body], labels[handle] = slot * 8 + 1, slot * 8 + 2
    color[body | handle] = rgb
    depth_m[body | handle] -= 0.04
