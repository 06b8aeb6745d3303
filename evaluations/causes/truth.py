"""What is true in a simulated cell, where a stage's output is compared with it or replaced by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array, invert, rigid
from affordagent.core.types import Candidate, Destination, FunctionalQuery, Mask
from affordagent.robot.sim.bodies import geom_parts
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.render import Renderer, camera_of
from affordagent.robot.sim.scene import PlacedObject, Scene
from affordagent.tools.delivery import TABLE
from affordagent.tools.vocabulary import LEAST_CANDIDATE

Expected = Literal["grasp", "ask", "refuse"]


@dataclass(frozen=True)
class Truth:
    """A simulated scene at one moment.

    gold: the objects of which any will do, and the part; None where nothing is to be grasped. expected: what the
    command should lead to. depth_m: (H, W) float32 without noise. T_base_camera: (4, 4). T_base_object: by name.
    qpos: (nq,) of the cell's model.
    """

    scene: Scene
    gold: Gold | None
    expected: Expected
    depth_m: NDArray[np.float32]
    T_base_camera: Array
    T_base_object: dict[str, Array]
    qpos: Array
    _labels: NDArray[np.int32] = field(repr=False)
    _parts: dict[int, tuple[str, str]] = field(repr=False)

    @classmethod
    def of(cls, cell: SimCell, expected: Expected = "grasp") -> Truth:
        """The cell as it is now, with its gold."""
        model, data, camera = cell.model, cell.data, cell.scene.camera
        with Renderer(model, camera.width, camera.height) as renderer:
            depth_m, labels = renderer.geometry(data)
        poses = {o.name: _pose(data.body(o.name)) for o in cell.scene.objects}
        gold = cell.gold if expected == "grasp" else None
        T_base_camera = camera_of(model)[1]
        return cls(
            cell.scene, gold, expected, depth_m, T_base_camera, poses, data.qpos.copy(), labels, geom_parts(model)
        )

    def mask(self, name: str, part: str | None = None) -> Mask:
        """(H, W) visible pixels of an object, or of one of its parts; of all of it where that part has no label."""
        labelled = part in self.scene.object(name).obj.parts
        geoms = [g for g, (o, p) in self._parts.items() if o == name and (p == part or not labelled)]
        return np.isin(self._labels, geoms)

    def aimed_at(self, object_mask: Mask) -> str | None:
        """The object with most pixels under the mask; None when most of the mask is on no object. As the judge does."""
        counts = {o.name: int((self.mask(o.name) & object_mask).sum()) for o in self.scene.objects}
        best = max(counts, key=lambda name: counts[name], default=None)
        return best if best is not None and 2 * sum(counts.values()) > object_mask.sum() > 0 else None

    def part_under(self, name: str, mask: Mask, share: float = 0.8) -> str | None:
        """The part of the object that so much of the mask (of its pixels on the object) is on; None = several."""
        counts = {part: int((self.mask(name, part) & mask).sum()) for part in self.scene.object(name).obj.parts}
        best = max(counts, key=lambda part: counts[part])
        return best if counts[best] >= share * max(sum(counts.values()), 1) else None

    def believed(self, T_base_camera: Array) -> Array:
        """(4, 4) from the true base frame to the one that a camera pose makes of it: where the true world is thought
        to be."""
        return T_base_camera @ invert(self.T_base_camera)

    def meant_by(self, query: FunctionalQuery) -> list[PlacedObject]:
        """The things of the scene that a query names: of the candidate with the highest score that is there, and of
        the colour, where things of that colour are there. Places and sizes are not read: see `target_of`."""
        scored = [(c.score, c.name) for c in query.candidates if c.score >= LEAST_CANDIDATE]
        names = [name for _, name in sorted(scored, key=lambda pair: -pair[0])]
        names = names or [query.category or query.object_words or ""]
        there = [thing for name in names for thing in self.scene.objects if thing.category == name]
        same = [thing for thing in there if thing.category == there[0].category]
        coloured = [thing for thing in same if thing.obj.colour == query.attributes.get("colour")]
        return coloured or same

    def target_of(self, query: FunctionalQuery) -> PlacedObject | None:
        """The thing that the query asks for: a gold one where the query fits it, else one that it names."""
        meant = self.meant_by(query)
        right = [thing for thing in meant if self.gold is not None and thing.name in self.gold.objects]
        return next(iter(right or meant), None)

    def is_nowhere(self, there: Destination | None) -> bool:
        """Is it a destination that the scene does not hold? "Slide it to the plate" says what a spatula is for where no
        plate is: the gold is to be taken, not put anywhere."""
        if there is None or there.words == TABLE:
            return False
        names = {o.category for o in self.scene.objects}
        heads = {name.split()[-1] for name in names}
        return there.category not in names and there.words.split()[-1] not in heads

    def query_for(self, given: FunctionalQuery, intent_if_none: Literal["pick"] = "pick") -> FunctionalQuery:
        """The query that the command should have led to: the gold thing and part by their names, the rest as given."""
        assert self.gold is not None
        thing = self.scene.object(min(self.gold.objects))
        part = self.gold.part or (None if thing.obj.part == "body" else thing.obj.part)
        alike = [other for other in self.scene.objects if other.category == thing.category]
        others = [other for other in alike if other.name not in self.gold.objects]
        nowhere = self.is_nowhere(given.destination)
        changes = {
            "intent": given.intent if given.wants_motion and not nowhere else intent_if_none,
            "destination": None if nowhere else given.destination,
            "category": thing.category,
            "object_words": thing.category,
            "candidates": [Candidate(name=thing.category, score=1.0, known=True)],
            "part": part,
            "attributes": {"colour": thing.obj.colour} if others else {},
            "needs_clarification": False,
            "question": None,
        }
        return given.model_copy(update=changes)


def _pose(body: object) -> Array:
    return rigid(body.xmat.reshape(3, 3), body.xpos)  # type: ignore[attr-defined]


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union; 1 of two empty masks."""
    union = int((a | b).sum())
    return float((a & b).sum() / union) if union else 1.0
