"""Instructions for pictures: rows of reasoning data (kinds "easy" and "hard") from rows that ask for a named thing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from affordagent.agent.instructions.judge import judged
from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.instructions.pairs import Instruction
from affordagent.finetune.data.schema import Sample


@dataclass(frozen=True)
class Asked:
    """A row that is to get an instruction. thing: its category in plain words; others: what else is in the picture."""

    row: Sample
    thing: str
    others: frozenset[str]


def chosen(rows: Sequence[Sample], n: int, seed: int, categories: Sequence[str] = ()) -> list[Asked]:
    """n rows with a mask that ask for a named thing: a category is drawn evenly, then a row of it, none twice.

    Raises:
        AffordAgentError: there is no such row.
    """
    things: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.category and (row.mask is not None or row.mask_rle is not None):
            things[row.image].add(_thing(row))
    waiting: dict[str, list[Sample]] = defaultdict(list)
    for row in rows:
        masked = row.mask is not None or row.mask_rle is not None
        if row.kind == "template" and masked and row.category and (not categories or _thing(row) in categories):
            waiting[_thing(row)].append(row)
    if not waiting:
        raise AffordAgentError("no row has a mask, a category and the kind template: there is nothing to write for")
    rng = np.random.default_rng(seed)
    for found in waiting.values():
        rng.shuffle(found)  # type: ignore[arg-type]
    drawn: list[Asked] = []
    while len(drawn) < n and waiting:
        for thing in sorted(waiting):
            row = waiting[thing].pop()
            drawn.append(Asked(row, thing, frozenset(things[row.image] - {thing})))
        waiting = {thing: found for thing, found in waiting.items() if found}
    return drawn[:n]


def counts(asked: Iterable[Asked]) -> dict[str, int]:
    """How many instructions of each category the rows need."""
    return dict(Counter(one.thing for one in asked))


def attached(asked: Iterable[Asked], pairs: Iterable[Instruction]) -> Iterator[Sample]:
    """The rows with an instruction each. A hard one that fits another thing of the picture better is left for another
    row; a row for which none is left has no instruction."""
    left: dict[str, list[Instruction]] = defaultdict(list)
    for pair in pairs:
        left[pair.category].append(pair)
    for one in asked:
        fit = next((pair for pair in left[one.thing] if _fits(pair, one)), None)
        if fit is not None:
            left[one.thing].remove(fit)
            yield replace(one.row, text=fit.question, answer=fit.answer, kind=fit.style)


def _fits(pair: Instruction, one: Asked) -> bool:
    if pair.style != "hard" or not one.others:
        return True
    return judged(pair.question, [one.thing, *one.others]).meant in (one.thing, None)


def _thing(row: Sample) -> str:
    return (row.category or "").replace("_", " ").lower()
