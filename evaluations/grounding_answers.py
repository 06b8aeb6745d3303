"""What both grounding tools answer in the simulated cell, kept in a folder, so that policies can be compared and limits
fitted without asking again.

Scenes are drawn by name and seed, seen with the sensor's noise, and proposals come from depth. In each, things that are
there are asked for (their kinds trained or not) and one thing that is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import StageFailure
from affordagent.core.overlap import overlap
from affordagent.core.run_store import RunStore, write_json
from affordagent.core.types import FunctionalQuery, Mask, PartMask, RgbdFrame, TableScene
from affordagent.evaluations.masks import absent_text, query_of
from affordagent.finetune.phrases import Split, Style, sample_text
from affordagent.graphs.state import Grounder
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.objects import library
from affordagent.robot.sim.scene import Scene, sample_scene
from affordagent.robot.sim.view import TrueObject

Kind = Literal["trained", "novel", "absent"]
STYLES: tuple[Style, ...] = ("template", "easy", "hard")
MIN_TARGET_PX = 120  # of the part, so that it can be seen at all
PRESENT = 3  # things asked for in a scene
KEPT = 2  # best masks of each tool
RIGHT_IOU = 0.5


@dataclass(frozen=True)
class Answer:
    """A tool's masks, best first, or the code of its failure."""

    parts: list[PartMask]
    failure: str | None = None


@dataclass(frozen=True)
class Case:
    """One text in one scene. truth: (H, W) the part, and `whole` its object, None for what is not there."""

    scene: str
    seed: int
    category: str
    kind: Kind
    style: Style
    text: str
    query: FunctionalQuery
    truth: Mask | None
    whole: Mask | None
    first: Answer
    second: Answer

    @property
    def key(self) -> str:
        return f"{self.scene}-{self.seed}-{self.text}"

    def right(self, part: PartMask | None) -> bool:
        """Is this the right end? The part with IoU 0.5 or more, or nothing where the thing is not there."""
        if part is None or self.truth is None:
            return part is None and self.truth is None
        return overlap(part.mask, self.truth).iou >= RIGHT_IOU


@dataclass(frozen=True)
class Seen:
    """A scene's picture and table, and the cases in it."""

    frame: RgbdFrame
    table: TableScene
    cases: list[Case]


@dataclass(frozen=True)
class Asked:
    """A text, what it means (None: not there) and how it was made."""

    thing: TrueObject | None
    kind: Kind
    style: Style
    text: str


def questions(scene: Scene, things: list[TrueObject], split: Split) -> list[Asked]:
    """Up to PRESENT things that can be seen, each in a style of its own, and one that is not there."""
    rng = np.random.default_rng([scene.seed, 77])
    seen = [thing for thing in things if thing.part_mask.sum() >= MIN_TARGET_PX]
    asked = []
    for turn, number in enumerate(rng.permutation(len(seen))[:PRESENT]):
        thing = seen[number]
        kind: Kind = "novel" if thing.category in library.HELD_OUT else "trained"
        style = STYLES[(scene.seed + turn) % len(STYLES)]
        twins = sum(other.category == thing.category for other in things) > 1
        part = None if thing.part == "body" else thing.part
        try:
            text = sample_text(rng, thing.category, thing.colour, part, twins, split, style)
        except KeyError:  # no functional phrases of that kind in this split
            style = "template"
            text = sample_text(rng, thing.category, thing.colour, part, twins, split, style)
        asked.append(Asked(thing, kind, style, text))
    style = STYLES[int(rng.integers(len(STYLES)))]
    text, _ = absent_text(rng, {thing.category for thing in things}, style, split)
    return [*asked, Asked(None, "absent", style, text)]


def ask(tool: Grounder, frame: RgbdFrame, table: TableScene, query: FunctionalQuery) -> Answer:
    try:
        return Answer(tool.find(frame, table, query)[:KEPT])
    except StageFailure as failure:
        return Answer([], failure.code)


def see(scene: Scene, first: Grounder, second: Grounder, split: Split) -> Seen:
    """Look at a scene and ask both tools everything.

    Raises:
        StageFailure: nothing can be seen of the table.
    """
    from affordagent.tools.table import find_objects

    with SimCell(scene, noise=True, seed=scene.seed) as cell:
        frame, things = cell.look(), cell.truth()
    table = find_objects(frame)
    cases = []
    for asked in questions(scene, things, split):
        query, thing = query_of(asked.text), asked.thing
        cases.append(
            Case(
                scene=scene.name,
                seed=scene.seed,
                category=thing.category if thing else "",
                kind=asked.kind,
                style=asked.style,
                text=asked.text,
                query=query,
                truth=thing.part_mask if thing else None,
                whole=thing.mask if thing else None,
                first=ask(first, frame, table, query),
                second=ask(second, frame, table, query),
            )
        )
    return Seen(frame, table, cases)


def collect(
    folder: Path,
    scenes: list[tuple[str, int]],
    first: Grounder,
    second: Grounder,
    split: Split,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Seen]:
    """All scenes, those that the folder holds without asking again."""
    for name, seed in scenes:
        place = folder / f"{name}-{seed}"
        if (place / "cases.json").is_file():
            yield _read(place)
            continue
        say(place.name)
        seen = see(sample_scene(name, seed), first, second, split)
        _write(place, seen)
        yield seen


class _Masks:
    """Masks as rows of one array."""

    def __init__(self) -> None:
        self.rows: list[Mask] = []

    def add(self, mask: Mask | None) -> int | None:
        if mask is None:
            return None
        self.rows.append(mask)
        return len(self.rows) - 1

    def add_part(self, part: PartMask) -> dict[str, Any]:
        fields = {"confidence": part.confidence, "tool": part.tool, "presence": part.presence}
        return {
            "mask": self.add(part.mask),
            "object_mask": self.add(part.object_mask),
            **fields,
            "evidence": part.evidence,
        }


def _write(place: Path, seen: Seen) -> None:
    store, masks = RunStore(place), _Masks()
    store.put("frame", seen.frame)
    store.put("table", seen.table)
    rows = []
    for case in seen.cases:
        plain = {name: getattr(case, name) for name in ("scene", "seed", "category", "kind", "style", "text")}
        answers = {
            name: {"parts": [masks.add_part(p) for p in answer.parts], "failure": answer.failure}
            for name, answer in (("first", case.first), ("second", case.second))
        }
        truth = {"truth": masks.add(case.truth), "whole": masks.add(case.whole)}
        rows.append({**plain, "query": case.query.model_dump(), **truth, **answers})
    np.savez_compressed(place / "masks.npz", masks=np.packbits(np.array(masks.rows, bool), axis=-1))
    write_json(place / "cases.json", rows)  # last: a folder with it is complete


def _read(place: Path) -> Seen:
    store = RunStore(place)
    frame, table = store.get("frame"), store.get("table")
    with np.load(place / "masks.npz", allow_pickle=False) as data:
        masks = np.unpackbits(data["masks"], axis=-1, count=frame.depth_m.shape[1]).astype(bool)
    rows = json.loads((place / "cases.json").read_text())
    return Seen(frame, table, [_case(row, masks) for row in rows])


def _case(row: dict[str, Any], masks: NDArray[np.bool_]) -> Case:
    def mask(number: int | None) -> Mask | None:
        return None if number is None else masks[number]

    def answer(fields: dict[str, Any]) -> Answer:
        return Answer([part(p) for p in fields["parts"]], fields["failure"])

    def part(fields: dict[str, Any]) -> PartMask:
        return PartMask(**{**fields, **{name: masks[fields[name]] for name in ("mask", "object_mask")}})

    changed = {
        "query": FunctionalQuery.model_validate(row["query"]),
        "truth": mask(row["truth"]),
        "whole": mask(row["whole"]),
        "first": answer(row["first"]),
        "second": answer(row["second"]),
    }
    return Case(**{**row, **changed})
