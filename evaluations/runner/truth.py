"""Language and masks from the simulator's truth, to measure the rest of the chain alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from affordagent.agent.session import Tools
from affordagent.core.types import Candidate, FunctionalQuery, PartMask, RgbdFrame, TableScene
from affordagent.robot.sim.cell import SimCell


@dataclass(frozen=True)
class TrueTools(Tools):
    """target: name of the object in the cell's scene that is wanted."""

    cell: SimCell | None = None
    target: str = ""

    def load(self) -> None:
        """The truth needs no models."""

    def understand(self, text: str, see: Callable[[], NDArray[np.uint8]] | None = None) -> FunctionalQuery:
        assert self.cell is not None
        thing = self.cell.scene.object(self.target)
        part = None if thing.obj.part == "body" else thing.obj.part
        candidates = [Candidate(name=thing.category, score=1.0, known=True)]
        return FunctionalQuery(text=text, intent="pick", category=thing.category, candidates=candidates, part=part)

    @cached_property
    def grounder(self) -> TrueTools:
        return self

    @cached_property
    def fallback(self) -> TrueTools:
        return self

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        assert self.cell is not None
        (thing,) = (t for t in self.cell.truth() if t.name == self.target)
        return [PartMask(thing.part_mask, thing.mask, 1.0, "truth")]
