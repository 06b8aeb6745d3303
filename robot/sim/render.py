"""RGB-D and label pictures of a MuJoCo model, in our conventions (pixel centres at integers, OpenCV camera axes)."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

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


def _gl_context(width: int, height: int) -> Any:
    """By MUJOCO_GL as it is now: mujoco itself chose when it was imported, perhaps before affordagent."""
    if importlib.util.find_spec("triton"):  # torch's compiler: loaded after Mesa's own LLVM it ends the process
        importlib.import_module("triton")
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if chosen in ("egl", "osmesa"):
        return importlib.import_module(f"mujoco.{chosen}").GLContext(width, height)
    return mujoco.GLContext(width, height)


class Renderer:
    """One per model: making one takes about a second. Use as a context manager, or call `close`.

    Raises:
        AffordAgentError: no OpenGL.
    """

    def __init__(self, model: mujoco.MjModel, width: int = 640, height: int = 480) -> None:
        self.model, self.width, self.height = model, width, height
        try:
            self._gl = _gl_context(width, height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except (AttributeError, ImportError, RuntimeError, OSError, mujoco.FatalError) as error:
            raise AffordAgentError(
                f"cannot render: OpenGL by MUJOCO_GL={os.environ.get('MUJOCO_GL')} failed ({error}). Install it with: "
                "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0; or, for software rendering, apt-get "
                "install libosmesa6 and set MUJOCO_GL=osmesa"
            ) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 100)
        self._option, self._rect = mujoco.MjvOption(), mujoco.MjrRect(0, 0, width, height)
        parts = geom_parts(model)
        self._parts = {key: [g for g, k in parts.items() if k == key] for key in dict.fromkeys(parts.values())}
        self._open = True

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._open:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._open = False

    def _aim(self, data: mujoco.MjData, camera: str) -> None:
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self.model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, data, self._option, None, view, everything, self._scene)
        self._gl.make_current()

    def color(self, data: mujoco.MjData, camera: str = LOOK_CAMERA, shadows: bool = True) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of the state in `data` (call `mj_forward` first)."""
        self._aim(data, camera)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        picture = np.empty((self.height, self.width, 3), np.uint8)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(picture, None, self._rect, self._context)
        return np.ascontiguousarray(picture[::-1])

    def geometry(self, data: mujoco.MjData, camera: str = LOOK_CAMERA) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Depth (H, W) float32 metres along the optical axis, 0 beyond MAX_DEPTH_M, and (H, W) int32 geom ids, NO_GEOM
        for the sky: both from one pass without lights."""
        self._aim(data, camera)
        flags = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
        ids, depth = np.empty((self.height, self.width, 3), np.uint8), np.empty((self.height, self.width), np.float32)
        for flag in flags:
            self._scene.flags[flag] = True
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(ids, depth, self._rect, self._context)
        for flag in flags:
            self._scene.flags[flag] = False
        near, far = (z * self.model.stat.extent for z in (self.model.vis.map.znear, self.model.vis.map.zfar))
        metres = near * far / (near + depth[::-1].astype(np.float64) * (far - near))  # reversed buffer: 1 near, 0 far
        metres[metres > MAX_DEPTH_M] = 0.0
        shown = self._scene.geoms[: self._scene.ngeom]
        table = np.full(self._scene.ngeom + 1, NO_GEOM, np.int32)
        for geom in shown:
            if geom.segid >= 0 and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                table[geom.segid + 1] = geom.objid
        code = ids[::-1].astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        return metres.astype(np.float32), table[code]

    def rgbd(self, data: mujoco.MjData, camera: str = LOOK_CAMERA) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Colour (H, W, 3) uint8 and noise-free depth (H, W) float32 metres."""
        return self.color(data, camera), self.geometry(data, camera)[0]

    def labels(self, data: mujoco.MjData, camera: str = LOOK_CAMERA) -> NDArray[np.int32]:
        """(H, W) int32 geom id of each pixel, NO_GEOM for the sky."""
        return self.geometry(data, camera)[1]

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
