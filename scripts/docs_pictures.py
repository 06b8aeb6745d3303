"""The pictures of the page "From the mask to the grasp", from a simulated run: `python scripts/docs_pictures.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from affordagent.agent.pictures import PART_RGB, draw_gripper, fork, overlay
from affordagent.agent.session import Session
from affordagent.agent.settings import Settings
from affordagent.core.run_store import RunStore

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "mask_to_grasp.png"
COMMAND, SETTINGS = "pick up the mug by its handle", Settings(scene="kitchen", seed=8)
SIDE_PX, ACROSS_M = 480, 0.19  # of a picture, and of the window of the side view
Picture = NDArray[np.uint8]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Session(SETTINGS) as session:
        result = session.run(COMMAND, Path(folder) / "run")
        if result.outcome != "success":
            raise SystemExit(f"the run ended as {result.outcome}: {result.failure}")
        panels(RunStore(Path(folder) / "run")).save(PICTURE, optimize=True)


def panels(store: RunStore) -> Image.Image:
    """Six pictures, 3 x 2: camera, mask, depth, cloud from the side, all grasps, the chosen one."""
    frame, part, plan = store.get("frame"), store.get("part_mask"), store.get("plan")
    grasps, _ = store.get("grasps")
    with_all, with_one = (np.asarray(overlay(frame, None, part)).copy() for _ in range(2))
    for grasp in reversed(grasps[:5]):
        draw_gripper(with_all, frame, grasp, grasp.width_m, (70, 130, 230), 1)
    draw_gripper(with_one, frame, plan.grasp, plan.opening_m, (235, 45, 35), 2)
    window = _around(part.object_mask)
    shown = {
        "1 what the camera sees": frame.color,
        "2 the part (magenta) and its thing": np.asarray(overlay(frame, None, part)),
        "3 depth, near is bright": _depth(frame.depth_m, window),
        "4 the cloud, from the side": _from_the_side(store),
        "5 grasps on the part": with_all,
        "6 the one that is planned": with_one,
    }
    tiles = [_tile(p if name.startswith("4") else p[window], name) for name, p in shown.items()]
    return Image.fromarray(np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])]))


def _around(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """A square window around a thing, three times its size."""
    rows, columns = np.nonzero(mask)
    half = int(0.95 * max(np.ptp(rows), np.ptp(columns)))
    v, u = (
        int(np.clip((a.min() + a.max()) // 2, half, n - half)) for a, n in zip((rows, columns), mask.shape, strict=True)
    )
    return slice(v - half, v + half), slice(u - half, u + half)


def _depth(depth_m: NDArray[np.float32], window: tuple[slice, slice]) -> Picture:
    near, far = np.percentile(depth_m[window][depth_m[window] > 0], [1, 99])
    grey = np.clip(255 * (far - depth_m) / (far - near), 0, 255).astype(np.uint8)
    coloured = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return np.where((depth_m > 0)[..., None], coloured, 0).astype(np.uint8)


def _from_the_side(store: RunStore) -> Picture:
    """The thing, its part and the chosen grasp, in a plane of the base frame: along the closing, and up."""
    cloud, plan = store.get("cloud"), store.get("plan")
    along = plan.grasp.T_base_tcp[:2, 1] / np.linalg.norm(plan.grasp.T_base_tcp[:2, 1])
    middle = cloud.object.mean(0)
    scale = SIDE_PX / ACROSS_M

    def pixels(points: NDArray[np.float64]) -> NDArray[np.int32]:
        x = (points[:, :2] - middle[:2]) @ along * scale + SIDE_PX / 2
        return np.round(np.stack([x, SIDE_PX * 0.9 - (points[:, 2] - cloud.table_z_m) * scale], axis=1)).astype(
            np.int32
        )

    picture = np.full((SIDE_PX, SIDE_PX, 3), 250, np.uint8)
    cv2.line(picture, (0, int(SIDE_PX * 0.9)), (SIDE_PX, int(SIDE_PX * 0.9)), (150, 165, 172), 3)
    for points, colour in ((cloud.object, (120, 140, 150)), (cloud.part, PART_RGB)):
        for x, y in pixels(points):
            cv2.circle(picture, (int(x), int(y)), 2, colour, -1, cv2.LINE_AA)
    cv2.polylines(picture, [pixels(fork(plan.grasp, plan.opening_m))], False, (235, 45, 35), 5, cv2.LINE_AA)
    return picture


def _tile(picture: Picture, caption: str) -> Picture:
    image = Image.fromarray(np.asarray(picture)).resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIDE_PX, 40), fill=(29, 43, 51))
    draw.text((12, 8), caption, (255, 255, 255), ImageFont.load_default(22))
    draw.rectangle((0, 0, SIDE_PX - 1, SIDE_PX - 1), outline=(255, 255, 255), width=3)
    return np.asarray(image)


if __name__ == "__main__":
    main()
