"""Grasps on recorded frames with masks drawn by hand, and pictures of them.

    python -m affordagent.evaluations.real_grasps --frames DIR --out DIR

DIR of frames: PREFIX_color.png, PREFIX_depth.png, PREFIX_camera.json (see `robot.frame_cell`), PREFIX_object_mask.png,
and PREFIX_handle_mask.png where the part to hold is not the whole object.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from affordagent.agent.pictures import grasps_on_image
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import GraspSet, Mask, PartCloud, PartMask, RgbdFrame
from affordagent.robot.frame_cell import FrameCell
from affordagent.tools.camera_pose import estimate_T_base_camera
from affordagent.tools.depth_projection import lift
from affordagent.tools.grasping.propose import consider, propose
from affordagent.tools.grasping.ranking import TERMS, diverse, score
from affordagent.tools.table import find_objects

LEAST = 10  # collision-free grasps an object
OBJECT, HANDLE = "_object_mask.png", "_handle_mask.png"
DRAWN, APART_M, APART_RAD = 20, 0.005, np.radians(10)  # how many grasps are drawn, and how different they are
VIEW_PX = (360, 300)  # of the picture, round the object


@dataclass(frozen=True)
class Found:
    """free: all collision-free grasps, best first, near equals among them; grasps: what `propose` makes of them."""

    name: str
    frame: RgbdFrame
    part: PartMask
    cloud: PartCloud
    free: GraspSet
    grasps: GraspSet

    def picture(self) -> Image.Image:
        """The best grasps on the part of the image round the object."""
        drawn = self.free.take(diverse(self.free.T_base_tcp, self.free.score, DRAWN, APART_M, APART_RAD))
        v, u = (int(np.mean(pixels)) for pixels in np.nonzero(self.part.object_mask))
        width, height = VIEW_PX
        left = min(max(u - width // 2, 0), self.frame.camera.width - width)
        top = min(max(v - 2 * height // 3, 0), self.frame.camera.height - height)  # the grippers come from above
        picture = grasps_on_image(self.frame, self.part, drawn)
        return picture.crop((left, top, left + width, top + height))


def frames(folder: Path) -> Iterator[Found]:
    """The grasps of every frame with masks.

    Raises:
        AffordAgentError: there are none.
        StageFailure: a frame cannot be read, or has no grasps.
    """
    masks = sorted(folder.glob(f"*{OBJECT}"))
    if not masks:
        raise AffordAgentError(f"no *{OBJECT} in {folder}: give the folder of frames with masks")
    for path in masks:
        prefix = folder / path.name.removesuffix(OBJECT)
        with FrameCell(prefix) as cell:
            frame = cell.look()
        scene = find_objects(frame)
        if frame.T_base_camera is None:
            frame = replace(frame, T_base_camera=estimate_T_base_camera(frame, scene)[0])
        whole, handle = _mask(path), Path(f"{prefix}{HANDLE}")
        part = PartMask(_mask(handle) if handle.is_file() else whole, whole, 1.0, "drawn by hand")
        cloud = lift(frame, scene, part)
        yield Found(prefix.name, frame, part, cloud, _free(cloud), propose(cloud, frame=frame))


def _free(cloud: PartCloud) -> GraspSet:
    view = consider(cloud)
    scores, terms = score(view, TERMS)
    grasps = GraspSet(view.grasps.T_base_tcp, view.grasps.width_m, scores, terms, backend="antipodal")
    return grasps.take(np.argsort(-scores, kind="stable"))


def _mask(path: Path) -> Mask:
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise AffordAgentError(f"{path} cannot be read as a picture")
    return np.asarray(picture > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for found in frames(given.frames):
        found.picture().save(given.out / f"grasps_real_{found.name}.png", optimize=True)
        verdict = "ok" if len(found.free) >= LEAST else f"fewer than {LEAST}"
        counts = f"{len(found.free):>4} collision-free grasps, {len(found.grasps):>3} proposed"
        depth = f"{found.cloud.valid_fraction:.0%} of the part with depth, {found.cloud.filled_fraction:.1%} filled"
        print(f"{found.name:<16}{counts}, best {found.free.score[0]:.2f}; {depth}; {verdict}")


if __name__ == "__main__":
    main()
