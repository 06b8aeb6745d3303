"""A simulated trial run again from the same state of its cell, with some nodes doing something else.

Nodes before the first changed one are not run again: their artefacts are taken from an earlier run of the trial. The
physics is deterministic, so a replay without changes gives the same bits as that run. Artefacts stay in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.run_store import WRITERS, RunStore
from affordagent.core.types import OutcomeName, Verdict
from affordagent.graphs.grasp import build
from affordagent.graphs.state import Done, GraspState, Stage, Workbench
from affordagent.robot.interface import Cell

NODES = ("understand", "look", "ground", "find_destination", "lift", "propose", "plan", "confirm", "execute", "verify")
MADE_BY: dict[str, tuple[str, ...]] = {
    "understand": ("query",),
    "look": ("frame", "table"),
    "ground": ("part_mask", "first_answer", "second_answer"),
    "find_destination": ("destination",),
    "lift": ("cloud", "kept_free"),
    "propose": ("grasps",),
    "plan": ("plan",),
}
"""Node -> names of the artefacts that it leaves in the store."""


class MemoryStore(RunStore):
    """A run whose artefacts stay in memory, at full precision. folder: for what must be a file, the journal."""

    def __init__(self, folder: Path, artefacts: Mapping[str, Any] | None = None) -> None:
        super().__init__(folder)
        self._memory.update(artefacts or {})

    def put(self, name: str, value: Any) -> None:
        assert name in WRITERS, name
        self._memory[name] = value

    def event(self, kind: str, **fields: Any) -> None:
        """The stages' records are in the state."""


@runtime_checkable
class Restorable(Cell, Protocol):
    """A cell that can go back to an earlier state of itself, as only a simulated one can."""

    def restore(self, state: Array) -> None: ...


@dataclass(frozen=True)
class Replayed:
    """What came of a replay. failure: stage, code, message. stages: the records, in order. store: the artefacts."""

    outcome: OutcomeName
    failure: dict[str, Any] | None
    stages: list[dict[str, Any]]
    store: RunStore

    @property
    def code(self) -> str | None:
        return None if self.failure is None else str(self.failure["code"])

    @property
    def verdict(self) -> Verdict | None:
        return self.store.get("verdict") if self.store.has("verdict") else None

    def reached(self, stage: str) -> bool:
        """Did the run get as far as this stage, whatever came of it there?"""
        return any(record["stage"] == stage for record in self.stages)


def replay(
    bench: Workbench,
    command: str,
    start: Array,
    *,
    swaps: Mapping[str, Stage],
    base: Replayed | None = None,
    changed: Collection[str] = (),
) -> Replayed:
    """Run the trial again.

    bench: of a `Restorable` cell, with the tools and settings of the trial; its store is left alone. start: the cell's
    state before the first look (`state_snapshot`). swaps: all nodes that do something else than usual, in
    this replay. base: an earlier run of the same trial; `changed`: the nodes that do something else than they did
    there. What comes before them is taken from the base; where the base did not get that far, it is the answer.

    Raises:
        ValueError: the cell is not `Restorable`, or a node is unknown.
    """
    cell = bench.cell
    if not isinstance(cell, Restorable):
        raise ValueError(f"{cell.name} cannot go back to an earlier state: nothing can be replayed in it")
    unknown = {*swaps, *changed} - {*NODES, "ground_again"}
    if unknown:
        raise ValueError(f"no node of the grasp graph is called {sorted(unknown)}; there are: {', '.join(NODES)}")
    first = 0 if base is None else _first(changed, base)
    if base is not None and not _comes_to(base, first):
        return base
    cell.restore(start)
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        store = MemoryStore(Path(folder), {} if base is None else _artefacts_before(base.store, first))
        nodes = dict(swaps) | {node: _as_before(node) for node in NODES[:first]}
        graph = build(replace(bench, store=store, swaps=nodes, ask_before_motion=False))
        state = cast(GraspState, graph.invoke(GraspState(command=command)))
    return Replayed(state["outcome"], state.get("failure"), state["stages"], store)


def output_of_grounding(store: RunStore) -> Any:
    """The part mask as grounding left it: `lift` may put the rest of the object in its place, for a hand-over."""
    return store.get("kept_free" if store.has("kept_free") else "part_mask")


def _first(changed: Collection[str], base: Replayed) -> int:
    """Index of the first node to run. What a hand-over does to the mask after `lift` is done from there again."""
    names = {"ground" if name in ("ground_again", "find_destination") else name for name in changed}
    first = min((NODES.index(name) for name in names), default=len(NODES))
    return min(first, NODES.index("lift")) if base.store.has("kept_free") else first


def _comes_to(base: Replayed, first: int) -> bool:
    """Did the base get as far as this node, so that a change of it can matter?"""
    return max(NODES.index(str(record["stage"])) for record in base.stages) >= first


def _artefacts_before(store: RunStore, first: int) -> dict[str, Any]:
    names = [name for node in NODES[:first] for name in MADE_BY.get(node, ()) if store.has(name)]
    kept = {name: store.get(name) for name in names}
    if "part_mask" in kept and first <= NODES.index("lift"):
        kept["part_mask"] = output_of_grounding(store)
    return kept


def _as_before(node: str) -> Stage:
    """The node's artefacts are in the store already; its word in the state is said again."""

    def stage(bench: Workbench, state: GraspState) -> Done:
        update = GraspState()
        if node == "understand" and bench.store.get("query").destination is not None:
            update["places"] = True
        if node == "ground":
            update["grounding"] = "sure"
        return Done("as before", {}, update)

    return stage


def judged(bench: Workbench, state: GraspState) -> Done:
    """Instead of `verify`: the simulator's truth alone, without a second look.

    Raises:
        StageFailure: the code of the check that failed.
    """
    query, store = bench.store.get("query"), bench.store
    there = store.get("destination").object_mask if query.destination is not None else None
    verdict = bench.cell.judge(store.get("plan"), store.get("part_mask").object_mask, query, there)
    assert verdict is not None  # a simulated cell knows
    store.put("verdict", verdict)
    if not verdict.success:
        evidence = {"checks": verdict.checks, "measured": verdict.measured, "by": verdict.by}
        raise StageFailure("verify", verdict.code or "verify.unknown", "not done", **evidence)
    return Done("done", {}, {"outcome": "success"})
