"""The simulated cell: a camera above a table, a UR5e with a 2F-85, and a judge that knows the truth."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array
from affordagent.core.types import FunctionalQuery, GraspPlan, Mask, RgbdFrame, Verdict
from affordagent.robot.hand_over import HandOver
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.sim.arm import SimArm
from affordagent.robot.sim.joints import settle
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.person import Person
from affordagent.robot.sim.render import Renderer
from affordagent.robot.sim.scene import OVERVIEW_CAMERA, Scene, build_spec
from affordagent.robot.sim.sensor import SensorNoise
from affordagent.robot.sim.view import PlannedEnd, SceneView, TrueObject

FRAME_EVERY_S = 0.12
VIDEO_FPS = 8
VIDEO_SIZE = (480, 360)
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class SimCell:
    """`robot.interface.Cell` in MuJoCo.

    noise: RealSense-like depth noise and holes, or another sensor's, drawn from `seed`. record: keep pictures of the
    motions for a video.
    hand_over: where the simulated person stands who takes what is held out, and pulls; None = nobody is there.
    gold: set by an evaluation that knows the right object and part; otherwise `judge` goes by the query.
    """

    is_hardware = False

    def __init__(
        self,
        scene: Scene,
        *,
        noise: bool | SensorNoise = False,
        seed: int = 0,
        record: bool = False,
        hand_over: HandOver | None = None,
    ) -> None:
        self.scene, self.name = scene, f"sim:{scene.name}-{scene.seed}"
        self.gold: Gold | None = None
        self.frames: list[NDArray[np.uint8]] = []
        self._noise = noise if isinstance(noise, SensorNoise) else SensorNoise() if noise else None
        self._seed, self._rng = seed, np.random.default_rng(seed)
        self._record = record
        self.model = build_spec(scene).compile()
        self.data = mujoco.MjData(self.model)
        self._person = None if hand_over is None else Person(self.model, self.data, hand_over.towards)
        self.arm = SimArm(self.model, self.data, self._on_step, self._person)
        self._view = SceneView(scene, self.model)
        self._next_frame_s = np.inf

    def __enter__(self) -> SimCell:
        """The objects fall onto the table and come to rest, the arm waits at LOOK_Q."""
        settle(self.model, self.data, LOOK_Q)
        self.arm.resume()
        self._view.remember(self.data.qpos)
        self.frames.clear()
        self._next_frame_s = self.data.time if self._record else np.inf
        return self

    def __exit__(self, *exc: object) -> None:
        self._view.close()
        renderer = self.__dict__.pop("_video_renderer", None)
        if renderer is not None:
            renderer.close()

    @cached_property
    def _video_renderer(self) -> Renderer:
        return Renderer(self.model, *VIDEO_SIZE)

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
        """What is touched and moved from now on is what `judge` speaks of. What a person has taken is gone."""
        if self._person is not None:
            self._person.take_away()
        self._view.remember(self.data.qpos)
        self.arm.contacts.clear()
        return self._view.look(self.name, self._noise, self._rng)

    def look_again(self) -> RgbdFrame:
        """As `look`; the truth goes on to speak of the last `look`, whose noise does not depend on this one."""
        with self._view.at(self.data.qpos) as now:
            return now.look(self.name, self._noise, np.random.default_rng([self._seed, 1]))

    def judge(
        self, plan: GraspPlan, object_mask: Mask, query: FunctionalQuery, destination_mask: Mask | None = None
    ) -> Verdict:
        """Strict checks of the executed plan against the truth; see `robot.sim.judge`."""
        there = None if plan.delivery is None else PlannedEnd(plan.delivery, destination_mask)
        return self._view.judge(self.arm.log, object_mask, query, self.gold, there)

    def truth(self) -> list[TrueObject]:
        """What was on the table at the last look. For evaluations only, never for tools."""
        return self._view.truth()

    def intended_objects(self, category: str) -> frozenset[str]:
        """Names of all objects of a category."""
        return self._view.intended_objects(category)

    def redraw(self, seed: int) -> None:
        """Draw the camera's noise from `seed` from now on. With the seed of the cell the next look is its first one
        again."""
        self._seed, self._rng = seed, np.random.default_rng(seed)

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
        self._view.remember(self.data.qpos)
        self._next_frame_s = self.data.time if self._record else np.inf
