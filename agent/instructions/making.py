"""Making instructions: drafts are written, checked, and kept one a line: a kill costs at most the draft at hand.

`FILE` has the pairs that were taken, `FILE.rejected.jsonl` the others with the reason, `FILE.settings.json` what they
were made with. The same command goes on where it was: how many drafts of a category there have been says which comes
next, and the same number gives the same draft.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from affordagent.agent.instructions.checks import Checker
from affordagent.agent.instructions.sources import Source
from affordagent.core.errors import AffordAgentError
from affordagent.core.jsonl import append_line, read_lines
from affordagent.core.run_store import write_json
from affordagent.finetune.data.instructions.pairs import Instruction

# A category is given up when so many drafts were turned down, and so many more for each that was taken.
PATIENCE, PATIENCE_FOR_EACH = 200, 10


@dataclass
class Made:
    """taken: the pairs; rejected: reason, without its particulars -> how many; given_up: category -> how many are
    missing."""

    taken: list[Instruction] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    given_up: dict[str, int] = field(default_factory=dict)


class Kept:
    """The pairs and the rejected ones, in memory and, with a file, on the disk."""

    def __init__(self, file: Path | None, settings: Mapping[str, Any]) -> None:
        """Raises:
        AffordAgentError: the file was made with other settings, or is no such file.
        """
        self.file, self.made = file, Made()
        self.drafts: Counter[str] = Counter()
        if file is None:
            return
        beside = file.with_name(f"{file.name}.settings.json")
        if file.exists() or beside.exists():
            self._check(beside, settings)
        else:
            beside.parent.mkdir(parents=True, exist_ok=True)
            write_json(beside, dict(settings))
        for line in read_lines(file):
            self._count(Instruction(**line))
        for line in read_lines(rejected_file(file)):
            reason = line.pop("reason")
            self._count(Instruction(**line), reason)

    def _check(self, beside: Path, settings: Mapping[str, Any]) -> None:
        before = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None
        if before != settings:
            was = before or {}
            changed = "; ".join(f"{k} {was.get(k)!r}, now {v!r}" for k, v in settings.items() if was.get(k) != v)
            raise AffordAgentError(f"{self.file} was made otherwise ({changed}): give those, or another --out")

    def _count(self, pair: Instruction, reason: str | None = None) -> None:
        self.drafts[pair.category] += 1
        if reason is None:
            self.made.taken.append(pair)
        else:
            self.made.rejected[kind_of(reason)] += 1

    def add(self, pair: Instruction, reason: str | None) -> None:
        """A pair that is taken (no reason), or why it is not."""
        if self.file is not None and reason is None:
            append_line(self.file, asdict(pair))
        elif self.file is not None:
            append_line(rejected_file(self.file), asdict(pair) | {"reason": reason})
        self._count(pair, reason)


def rejected_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.rejected.jsonl")


def kind_of(reason: str) -> str:
    """A reason without its particulars: "means mug, as ..." -> "means"."""
    known = ("gives the name away", "near-duplicate", "means another thing", "question too", "answer too")
    if reason.startswith("means "):
        return "means another thing"
    return next((kind for kind in known if reason.startswith(kind)), reason.split(":")[0])


def make(source: Source, wanted: Mapping[str, int], kept: Kept, checker: Checker) -> Iterator[Instruction]:
    """Pairs until there are as many of each category as wanted, in turns, or the source has no more that can be taken.

    What `kept` already has counts, and is not given again.

    Raises:
        AffordAgentError: the source cannot go on; what there is is kept.
    """
    taken = Counter(pair.category for pair in kept.made.taken)
    while open_ones := _open(wanted, taken, kept):
        fewest = min(kept.drafts[category] for category in open_ones)
        turn = [category for category in open_ones if kept.drafts[category] == fewest]
        source.prepare([(category, kept.drafts[category]) for category in turn])
        for category in turn:
            pair = source.pair(category, kept.drafts[category])
            if isinstance(pair, str):
                kept.add(Instruction(category, source.style, "", ""), f"no pair: {pair}")
                continue
            reason = checker.rejected(pair)
            kept.add(pair, reason)
            if reason is None:
                taken[category] += 1
                yield pair
    kept.made.given_up = {category: n - taken[category] for category, n in wanted.items() if taken[category] < n}


def _open(wanted: Mapping[str, int], taken: Counter[str], kept: Kept) -> list[str]:
    """The categories of which there are not enough, and hope for more."""
    return [
        category
        for category, n in wanted.items()
        if taken[category] < n
        and kept.drafts[category] - taken[category] < PATIENCE + PATIENCE_FOR_EACH * taken[category]
    ]


def shared_out(n: int, categories: Sequence[str]) -> dict[str, int]:
    """n pairs over the categories, as evenly as can be."""
    return {category: n // len(categories) + (i < n % len(categories)) for i, category in enumerate(categories)}
