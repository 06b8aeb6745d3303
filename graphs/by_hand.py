"""A run with a part that a person marked: the mask says what is meant, where the words would be asked for otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable

from affordagent.core.errors import StageFailure
from affordagent.core.types import FunctionalQuery, PaintedMask
from affordagent.graphs.state import Done, Workbench
from affordagent.tools.mask_checks import check_mask
from affordagent.tools.painted import check_unchanged, part_of

MARKED = "marked thing"  # what the thing is called where nobody named it
_IT = re.compile(r"\b(?:it|this|that)(?: one| thing)?\b", re.I)
_PUTS = re.compile(r"\b(?:put|place|set|lay|drop|down|back)\b", re.I)
FIRM = ("pixels", "on_table")  # checks that a person's word does not outrank: there is nothing to hold


def read_pointing(text: str, understand: Callable[[str], FunctionalQuery]) -> FunctionalQuery:
    """What a command means whose "it" is what a mask marks.

    Raises:
        StageFailure: what the language stage refuses.
    """
    query = understand(text)
    if query.intent == "refer_back" and not _PUTS.search(text):
        query = understand(_IT.sub(f"the {MARKED}", text))
    return pointed_at(query)


def pointed_at(query: FunctionalQuery) -> FunctionalQuery:
    """The wish with the object and the part that a mask says: names, looks and places of the words are dropped, as the
    mask may be on another thing, and none of them is asked about. Where it is to go is as the words say."""
    if query.intent in ("stop", "question") or (query.intent == "place" and query.destination is None):
        return query
    if query.intent == "refer_back" and _PUTS.search(query.text):
        question = "Where shall I put what you marked? Please name the place, for example: in the box."
        return query.model_copy(update={"needs_clarification": True, "question": question})
    return query.model_copy(
        update={
            "intent": query.intent if query.wants_motion else "pick",  # "by here": the mask says the rest
            "category": None,
            "candidates": [],
            "object_words": MARKED,
            "part": None,
            "attributes": {},
            "at_m": None,
            "not_at_m": [],
            "needs_clarification": False,
            "question": None,
        }
    )


def ground_painted(bench: Workbench) -> Done:
    """The part as the person marked it, after a new look.

    Raises:
        StageFailure: grounding.mask_stale: the scene has changed; grounding.implausible: it lies on nothing, or on two
            things.
    """
    painted: PaintedMask = bench.store.get("painted")
    frame, table, query = (bench.store.get(name) for name in ("frame", "table", "query"))
    change = check_unchanged(painted, frame, table)
    part = part_of(painted, table)
    checks = check_mask(part, frame, table, query)
    failed = [check for check in checks if not check.passed]
    firm = [check.says for check in failed if check.name in FIRM]
    if firm:
        message = f"the mask marks nothing to hold: {'; '.join(firm)}. Mark a part of a thing on the table"
        raise StageFailure("ground", "grounding.implausible", message, checks=[check.as_json() for check in checks])
    outranked = [check.says for check in failed]
    part.evidence.update(change.as_json(), outranked=outranked)
    bench.store.put("part_mask", part)
    evidence = {"tool": part.tool, "pixels": int(part.mask.sum()), "confidence": part.confidence, **part.evidence}
    although = f", although {'; '.join(outranked)}" if outranked else ""
    return Done(f"as marked by the person: {evidence['pixels']} px{although}", evidence, {"grounding": "sure"})
