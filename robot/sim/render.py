"""RGB-D and label pictures of a MuJoCo model, in our conventions (pixel centres at integers, OpenCV camera axes)."""

from __future__ import annotations

import os

import mujoco
import numpy as np
from numpy.typing import NDArray

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array, rigid
from affordagent.core.types import Mask, RgbdFrame
from affordagent.robot.sim.bodies import geom_parts
from affordagent.robot.sim.scene import LOOK_CAMERA, pinhole

MAX_DEPTH_M = 2.5
NO_GEOM = -1


def camera_of(
    model: mujoco.MjModel, name: str = LOOK_CAMERA, width: int = 640, height: int = 480
) -> tuple[CameraIntrinsics, Array]:
    """Intrinsics and T_base_camera of a camera fixed to the world."""
    camera = model.camera(name)
    R = np.zeros(9)
    mujoco.mju_quat2Mat(R, camera.quat)
    T_base_camera = rigid(R.reshape(3, 3) @ np.diag([1.0, -1.0, -1.0]), camera.pos)
    return pinhole(width, height, float(camera.fovy[0])), T_base_camera


class Renderer:
    """One per model: making one takes about a second. Use as a context manager, or call `close`.

    Raises:
        AffordAgentError: no OpenGL.
    """

    def __init__(self, model: mujoco.MjModel, width: int = 640, height: int = 480) -> None:
        self.model, self.width, self.height = model, width, height
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except (AttributeError, ImportError, RuntimeError, OSError, mujoco.FatalError) as error:
            raise AffordAgentError(
                f"cannot render: OpenGL by MUJOCO_GL={os.environ.get('MUJOCO_GL')} failed ({error}). Install it with: "
                "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0; or, for software rendering, apt-get "
                "install libosmesa6 and set MUJOCO_GL=osmesa"
            ) from error
        parts = geom_parts(model)
        self._parts = {key: [g for g, k in parts.items() if k == key] for key in dict.fromkeys(parts.values())}

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._renderer.close()

    def color(self, data: mujoco.MjData, camera: str = LOOK_CAMERA, shadows: bool = True) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of the state in `data` (call `mj_forward` first)."""
        self._renderer.update_scene(data, camera)
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        return self._renderer.render().copy()

    def depth(self, data: mujoco.MjData, camera: str = LOOK_CAMERA) -> NDArray[np.float32]:
        """(H, W) float32 metres along the optical axis; 0 beyond MAX_DEPTH_M."""
        self._renderer.update_scene(data, camera)
        self._renderer.enable_depth_rendering()
        try:
            depth = self._renderer.render().astype(np.float32)
        finally:
            self._renderer.disable_depth_rendering()
        depth[depth > MAX_DEPTH_M] = 0.0
        return depth

    def rgbd(self, data: mujoco.MjData, camera: str = LOOK_CAMERA) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Colour (H, W, 3) uint8 and noise-free depth (H, W) float32 metres."""
        return self.color(data, camera), self.depth(data, camera)

    def labels(self, data: mujoco.MjData, camera: str = LOOK_CAMERA) -> NDArray[np.int32]:
        """(H, W) int32 geom id of each pixel, NO_GEOM for the sky."""
        self._renderer.update_scene(data, camera)
        self._renderer.enable_segmentation_rendering()
        try:
            ids = self._renderer.render()
        finally:
            self._renderer.disable_segmentation_rendering()
        return np.where(ids[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM), ids[..., 0], NO_GEOM).astype(np.int32)

    def mask(self, labels: NDArray[np.int32], obj: str, part: str | None = None) -> Mask:
        """(H, W) visible pixels of an object, or of one of its parts, in a picture of `labels`."""
        wanted = [g for (o, p), geoms in self._parts.items() if o == obj and part in (None, p) for g in geoms]
        if not wanted:
            raise KeyError(f"the model has no {obj if part is None else f'{obj}/{part}'}")
        return np.isin(labels, wanted)

    def to_frame(
        self,
        color: NDArray[np.uint8],
        depth_m: NDArray[np.float32],
        camera: str = LOOK_CAMERA,
        stamp_s: float = 0.0,
        source: str = "simulator",
    ) -> RgbdFrame:
        intrinsics, T_base_camera = camera_of(self.model, camera, self.width, self.height)
        return RgbdFrame(color, depth_m, intrinsics, T_base_camera, stamp_s, source)
