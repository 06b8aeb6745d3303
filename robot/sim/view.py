"""A simulated scene as its camera sees it, and the truth about what it sees: for the cell, and for a client of the
emulated controller, which knows only the state that the emulator sends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial

import mujoco
import numpy as np

from affordagent.core.geometry import Array, rigid
from affordagent.core.types import Delivery, FunctionalQuery, Mask, RgbdFrame, Verdict
from affordagent.robot.sim.contacts import PhaseLog
from affordagent.robot.sim.delivery_judge import TrueEnd, judge_delivery
from affordagent.robot.sim.judge import Gold, judge_motion
from affordagent.robot.sim.render import Renderer
from affordagent.robot.sim.scene import Scene, build_spec
from affordagent.robot.sim.sensor import SensorNoise


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


@dataclass(frozen=True)
class PlannedEnd:
    """How the object was to be delivered. destination_mask: (H, W) of the thing to put it into, onto or beside."""

    delivery: Delivery
    destination_mask: Mask | None


class SceneView:
    """Looks at a scene in a given state. Tools may see what `look` returns; all else is the truth, for evaluations.

    model: of the scene, compiled here (with a UR5e) when left out. Close it, or use it as a context manager.
    """

    def __init__(self, scene: Scene, model: mujoco.MjModel | None = None) -> None:
        self.scene = scene
        self.model = build_spec(scene).compile() if model is None else model
        self._data = mujoco.MjData(self.model)

    def __enter__(self) -> SceneView:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        renderer = self.__dict__.pop("_renderer", None)
        if renderer is not None:
            renderer.close()

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self.model, self.scene.camera.width, self.scene.camera.height)

    def remember(self, qpos: Array) -> None:
        """The state (nq,) that everything below speaks of.

        Raises:
            ValueError: it does not belong to this scene.
        """
        if np.shape(qpos) != (self.model.nq,):
            raise ValueError(f"a state of {np.shape(qpos)}, the scene {self.scene.name} has ({self.model.nq},)")
        self._data.qpos[:] = qpos
        mujoco.mj_forward(self.model, self._data)

    @contextmanager
    def at(self, qpos: Array) -> Iterator[SceneView]:
        """For a moment, another state."""
        before = self._data.qpos.copy()
        self.remember(qpos)
        try:
            yield self
        finally:
            self.remember(before)

    def look(self, source: str, noise: SensorNoise | None = None, rng: np.random.Generator | None = None) -> RgbdFrame:
        """The camera's picture of the state. noise: of the depth sensor, drawn from `rng`."""
        color, depth_m = self._renderer.rgbd(self._data)
        if noise is not None:
            assert rng is not None
            color, depth_m = noise.apply(color, depth_m, self.scene.camera.intrinsics.fx, rng)
        return self._renderer.to_frame(color, depth_m, stamp_s=time.time(), source=source)

    def truth(self) -> list[TrueObject]:
        """What is on the table. For evaluations only, never for tools."""
        labels = self._renderer.labels(self._data)
        return [
            TrueObject(
                name=o.name,
                category=o.category,
                colour=o.obj.colour,
                part=o.obj.part,
                mask=self._renderer.mask(labels, o.name),
                part_mask=self._renderer.mask(labels, o.name, o.obj.part),
                T_base_object=_body_pose(self._data, o.name),
            )
            for o in self.scene.objects
        ]

    def intended_objects(self, category: str) -> frozenset[str]:
        """Names of all objects of a category."""
        return frozenset(o.name for o in self.scene.objects if o.category == category)

    def judge(
        self,
        log: dict[str, PhaseLog],
        object_mask: Mask,
        query: FunctionalQuery,
        gold: Gold | None = None,
        planned: PlannedEnd | None = None,
    ) -> Verdict:
        """Strict checks of a motion that began in this state, see `robot.sim.judge`.

        log: what was touched on the way. object_mask: (H, W) of the object that was to be grasped. gold: what is known
        to be right; otherwise it goes by the query. planned: how the object was to be delivered, None = held.
        """
        before = {o.name: _body_pose(self._data, o.name) for o in self.scene.objects}
        aimed_at, gold = self._aimed_at(object_mask), gold or self._gold(query)
        if planned is None:
            return judge_motion(log, before, aimed_at, query.part, gold)
        handle = None
        if planned.delivery.kind == "hand_over" and "handle_free" in query.constraints:  # held anywhere, the part free
            handle, query = query.part, query.model_copy(update={"part": None})
            gold = None if gold is None else replace(gold, part=None)
        mask = planned.destination_mask
        there = self._aimed_at(mask) if mask is not None and mask.any() else None
        end = TrueEnd(planned.delivery, aimed_at, query.destination, there, self._labelled(aimed_at, handle))
        delivered = partial(judge_delivery, log, before, self.scene, end)
        return judge_motion(log, before, aimed_at, query.part, gold, delivered)

    def _labelled(self, name: str | None, part: str | None) -> str | None:
        """The part, where the object has one of that name to be judged by."""
        return part if name is not None and part in self.scene.object(name).obj.parts else None

    def _gold(self, query: FunctionalQuery) -> Gold | None:
        """The objects that the query names, by category and colour; None when it names none the simulator knows. A part
        without a label of its own (a mug's rim) cannot be judged: any part will do."""
        name = query.category or query.object_words
        if name is None:
            return None
        names = self.intended_objects(name)
        if not names and query.category is None:
            return None
        coloured = {n for n in names if self.scene.object(n).obj.colour == query.attributes.get("colour")}
        labelled = {part for n in names for part in self.scene.object(n).obj.parts}
        return Gold(frozenset(coloured) or names, query.part if query.part in labelled else None)

    def _aimed_at(self, object_mask: Mask) -> str | None:
        """The object with most pixels under the mask; None when most of the mask is on no object."""
        labels = self._renderer.labels(self._data)
        counts = {o.name: int((self._renderer.mask(labels, o.name) & object_mask).sum()) for o in self.scene.objects}
        best = max(counts, key=lambda name: counts[name], default=None)
        return best if best is not None and 2 * sum(counts.values()) > object_mask.sum() > 0 else None


def _body_pose(data: mujoco.MjData, name: str) -> Array:
    body = data.body(name)
    return rigid(body.xmat.reshape(3, 3), body.xpos)
