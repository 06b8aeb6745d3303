"""What the injected faults share: where a fault is put, what it knows of the scene, and the record that it leaves."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.graphs.state import Done, GraspState, Stage, Workbench
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.scene import PlacedObject
from affordagent.robot.sim.view import TrueObject


@dataclass(frozen=True)
class Fault:
    """A fault to inject. cause: one of `core.causes.CAUSES`. name: one of `faults.FAULTS`. size: in the unit that the
    name says, None where the fault has no size."""

    cause: str
    name: str
    size: float | None = None


@dataclass(frozen=True)
class Injection:
    """A fault in one cell. The cell's `gold` says what the trial is about; equal seeds spoil alike, however often."""

    fault: Fault
    cell: SimCell
    seed: int

    @property
    def size(self) -> float:
        """The fault's.

        Raises:
            AffordAgentError: it has none.
        """
        if self.fault.size is None:
            raise AffordAgentError(f"the fault '{self.fault.name}' needs a size")
        return self.fault.size

    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.fault.cause} {self.fault.name}".encode())])

    @property
    def gold(self) -> Gold:
        """What the trial is about.

        Raises:
            AffordAgentError: the cell does not know.
        """
        if self.cell.gold is None or not self.cell.gold.objects:
            raise AffordAgentError(f"the cell {self.cell.name} has no gold: say what is right before injecting a fault")
        return self.cell.gold

    @property
    def target(self) -> PlacedObject:
        """The first of the gold things."""
        return self.cell.scene.object(min(self.gold.objects))

    @property
    def others(self) -> list[PlacedObject]:
        """All that would be wrong to take."""
        return [thing for thing in self.cell.scene.objects if thing.name not in self.gold.objects]

    def seen(self, name: str) -> TrueObject:
        return next(thing for thing in self.cell.truth() if thing.name == name)

    def record(self, **effect: Any) -> dict[str, Any]:
        fault = self.fault
        return {"cause": fault.cause, "name": fault.name, "size": fault.size, **effect}


Spoiler = Callable[[Injection, Stage], Stage]
"""From a stage to the same stage with the fault in it."""


def noted(done: Done, record: dict[str, Any]) -> Done:
    """The stage's answer with one more fault in its evidence."""
    return replace(done, evidence={**done.evidence, "injected": [*done.evidence.get("injected", []), record]})


Change = Callable[[Injection, Workbench], dict[str, Any]]
"""Spoils what a stage left in the store, and says what that did; StageFailure where the fault ends the run."""


def afterwards(change: Change) -> Spoiler:
    """The usual stage, then the change of its artefact."""

    def spoil(injection: Injection, usual: Stage) -> Stage:
        def stage(bench: Workbench, state: GraspState) -> Done:
            done = usual(bench, state)
            return noted(done, injection.record(**change(injection, bench)))

        return stage

    return spoil


def ending(make: Callable[[str], StageFailure]) -> Spoiler:
    """Instead of the usual stage the failure that `make` gives for a message."""

    def spoil(injection: Injection, usual: Stage) -> Stage:
        def stage(bench: Workbench, state: GraspState) -> Done:
            failure = make(f"injected: {injection.fault.name}")
            failure.evidence["injected"] = [injection.record()]
            raise failure

        return stage

    return spoil
