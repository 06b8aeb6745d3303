"""The simulated cell: a camera above a table, a UR5e with a 2F-85, and a judge that knows the truth."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array, rigid
from affordagent.core.types import FunctionalQuery, GraspPlan, Mask, RgbdFrame, Verdict
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.sim.arm import SimArm
from affordagent.robot.sim.judge import Gold, judge_motion
from affordagent.robot.sim.render import Renderer
from affordagent.robot.sim.scene import OVERVIEW_CAMERA, Scene, build_spec
from affordagent.robot.sim.sensor import SensorNoise

SETTLE_S = 0.6
_SETTLE_MOST_S = 3.0
_AT_REST_M_S = 0.01
FRAME_EVERY_S = 0.12
VIDEO_FPS = 8
VIDEO_SIZE = (480, 360)
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@dataclass(frozen=True)
class TrueObject:
    """One thing on the table as it was at the last look. mask, part_mask: (H, W) bool visible pixels."""

    name: str
    category: str
    colour: str
    part: str
    mask: Mask
    part_mask: Mask
    T_base_object: Array


class SimCell:
    """`robot.interface.Cell` in MuJoCo.

    noise: RealSense-like depth noise and holes, drawn from `seed`. record: keep pictures of the motions for a video.
    gold: set by an evaluation that knows the right object and part; otherwise `judge` goes by the query.
    """

    is_hardware = False

    def __init__(self, scene: Scene, *, noise: bool = False, seed: int = 0, record: bool = False) -> None:
        self.scene, self.noise, self.name = scene, noise, f"sim:{scene.name}-{scene.seed}"
        self.gold: Gold | None = None
        self.frames: list[NDArray[np.uint8]] = []
        self._rng = np.random.default_rng(seed)
        self._record = record
        self.model = build_spec(scene).compile()
        self.data = mujoco.MjData(self.model)
        self.arm = SimArm(self.model, self.data, self._on_step)
        self._looked = self.data.qpos.copy()
        self._next_frame_s = np.inf

    def __enter__(self) -> SimCell:
        """The objects fall onto the table and come to rest, the arm waits at LOOK_Q."""
        mujoco.mj_resetData(self.model, self.data)
        self.arm.reset(LOOK_Q)
        mujoco.mj_forward(self.model, self.data)
        self._next_frame_s = np.inf
        while self.data.time < SETTLE_S or (self._fastest_m_s() > _AT_REST_M_S and self.data.time < _SETTLE_MOST_S):
            mujoco.mj_step(self.model, self.data, nstep=25)
        self._looked = self.data.qpos.copy()
        self.frames.clear()
        self._next_frame_s = self.data.time if self._record else np.inf
        return self

    def __exit__(self, *exc: object) -> None:
        for name in ("_renderer", "_video_renderer"):
            renderer = self.__dict__.pop(name, None)
            if renderer is not None:
                renderer.close()

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self.model, self.scene.camera.width, self.scene.camera.height)

    @cached_property
    def _video_renderer(self) -> Renderer:
        return Renderer(self.model, *VIDEO_SIZE)

    def _fastest_m_s(self) -> float:
        """Speed of the fastest loose object."""
        free = self.model.jnt_type == mujoco.mjtJoint.mjJNT_FREE
        starts = self.model.jnt_dofadr[free]
        speeds = [np.linalg.norm(self.data.qvel[s : s + 3]) for s in starts]
        return float(max(speeds, default=0.0))

    def _on_step(self) -> None:
        if self.data.time >= self._next_frame_s:
            self._next_frame_s += FRAME_EVERY_S
            self.frames.append(self._video_renderer.color(self.data, OVERVIEW_CAMERA, shadows=False))

    def save_video(self, path: Path) -> None:
        """Write the pictures kept so far as mp4 (needs `record`); nothing when there are none."""
        import imageio.v3 as iio

        if self.frames:
            iio.imwrite(path, np.stack(self.frames), fps=VIDEO_FPS, codec="libx264", macro_block_size=1)

    def look(self) -> RgbdFrame:
        mujoco.mj_forward(self.model, self.data)
        self._looked = self.data.qpos.copy()
        color, depth_m = self._renderer.rgbd(self.data)
        if self.noise:
            focal_px = self.scene.camera.intrinsics.fx
            color, depth_m = SensorNoise().apply(color, depth_m, focal_px, self._rng)
        return self._renderer.to_frame(color, depth_m, stamp_s=time.time(), source=self.name)

    def judge(self, plan: GraspPlan, object_mask: Mask, query: FunctionalQuery) -> Verdict:
        """Strict checks of the executed plan against the truth; see `robot.sim.judge`."""
        before = self._looked_data()
        poses = {o.name: _body_pose(before, o.name) for o in self.scene.objects}
        return judge_motion(self.arm.log, poses, self._aimed_at(object_mask), query.part, self._gold(query))

    def _gold(self, query: FunctionalQuery) -> Gold | None:
        """The objects that the query names, by category and colour; None when it names none the simulator knows. A part
        without a label of its own (a mug's rim) cannot be judged: any part will do."""
        name = query.category or query.object_words
        if self.gold is not None or name is None:
            return self.gold
        names = self.intended_objects(name)
        if not names and query.category is None:
            return None
        coloured = {n for n in names if self.scene.object(n).obj.colour == query.attributes.get("colour")}
        labelled = {part for n in names for part in self.scene.object(n).obj.parts}
        return Gold(frozenset(coloured) or names, query.part if query.part in labelled else None)

    def _looked_data(self) -> mujoco.MjData:
        """The state at the last look."""
        data = mujoco.MjData(self.model)
        data.qpos[:] = self._looked
        mujoco.mj_forward(self.model, data)
        return data

    def _aimed_at(self, object_mask: Mask) -> str | None:
        """The object with most pixels under the mask at the last look; None when most of the mask is on no object."""
        labels = self._renderer.labels(self._looked_data())
        counts = {o.name: int((self._renderer.mask(labels, o.name) & object_mask).sum()) for o in self.scene.objects}
        best = max(counts, key=lambda name: counts[name], default=None)
        return best if best is not None and 2 * sum(counts.values()) > object_mask.sum() > 0 else None

    def truth(self) -> list[TrueObject]:
        """What was on the table at the last look. For evaluations only, never for tools."""
        data = self._looked_data()
        labels = self._renderer.labels(data)
        return [
            TrueObject(
                name=o.name,
                category=o.category,
                colour=o.obj.colour,
                part=o.obj.part,
                mask=self._renderer.mask(labels, o.name),
                part_mask=self._renderer.mask(labels, o.name, o.obj.part),
                T_base_object=_body_pose(data, o.name),
            )
            for o in self.scene.objects
        ]

    def intended_objects(self, category: str) -> frozenset[str]:
        """Names of all objects of a category."""
        return frozenset(o.name for o in self.scene.objects if o.category == category)

    def state_snapshot(self) -> Array:
        """The whole physics state, to `restore` later: the same motions from it give the same results."""
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state

    def restore(self, state: Array) -> None:
        """Go back to a snapshot; forgets the arm's logs and stops."""
        mujoco.mj_setState(self.model, self.data, state, _STATE)
        mujoco.mj_forward(self.model, self.data)
        self.arm.resume()
        self._looked = self.data.qpos.copy()
        self._next_frame_s = self.data.time if self._record else np.inf


def _body_pose(data: mujoco.MjData, name: str) -> Array:
    body = data.body(name)
    return rigid(body.xmat.reshape(3, 3), body.xpos)
