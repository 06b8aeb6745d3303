"""The nodes that find the part to hold: the trained model first, the fallback tool where that is in doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from affordagent.core.errors import StageFailure
from affordagent.core.types import FunctionalQuery, PartMask
from affordagent.graphs import referents
from affordagent.graphs.by_hand import ground_painted
from affordagent.graphs.state import Done, GraspState, Grounder, Workbench
from affordagent.tools.second_opinion import Decision, Doubt, Opinion, absent, decide, opinion_of


def ground(bench: Workbench, state: GraspState) -> Done:
    """The part to hold: as a person marked it, else by the trained model; `first_answer` keeps a mask that is doubted.

    Raises:
        StageFailure: grounding.not_found where the model is sure that there is no such thing.
        NeedsClarification: grounding.which where several things fit nearly as well, and that is to be asked about.
    """
    if bench.store.has("painted"):
        return ground_painted(bench)
    first, failure = _ask(bench, bench.grounder)
    doubts = doubts_of(first, failure, bench.sure_above)
    if first is None:
        return Done(f"not found: {doubts[0].says}", {"doubts": _plain(doubts), **failure}, {"grounding": "failed"})
    evidence = {"doubts": _plain(doubts), **first.as_json()}
    if doubts and first.surely_absent(_present_above(bench)):
        raise _not_found(bench.store.get("query"), absent(first), evidence)
    if doubts:
        bench.store.put("first_answer", first.part)
    else:
        _take(bench, first.part, first.confidence, first.presence)
    why = f": asking the fallback ({'; '.join(doubt.says for doubt in doubts)})" if doubts else ""
    return Done(f"{_described(first)}{why}", evidence, {"grounding": "doubtful" if doubts else "sure"})


def ground_again(bench: Workbench, state: GraspState) -> Done:
    """A second opinion by the fallback tool. Both masks are kept, and the record says which was taken, and why."""
    first = None
    if state.get("grounding") == "doubtful":
        first = opinion_of(bench.store.get("first_answer"), *_grounding_input(bench))
    second, failure = _ask(bench, bench.fallback)
    if second is not None:
        bench.store.put("second_answer", second.part)
    decision = decide(first, second, bench.sure_above, _present_above(bench))
    evidence: dict[str, Any] = {"decision": decision.as_json(), "asked_because": _asked_because(state)}
    evidence |= {name: o.as_json() for name, o in (("first", first), ("second", second)) if o is not None}
    if second is None:
        evidence["second_failed"] = failure
    if decision.part is None:
        raise _not_found(bench.store.get("query"), decision, evidence)
    _take(bench, decision.part, decision.confidence, decision.presence)
    evidence |= {"tool": decision.part.tool, "confidence": decision.confidence}
    return Done(f"{decision.part.tool}, confidence {decision.confidence:.2f}: {decision.says}", evidence)


def _present_above(bench: Workbench) -> float:
    """A thing that the person chose is there, whatever it looks like to the tools."""
    return 0.0 if bench.store.get("query").at_m is not None else bench.present_above


def doubts_of(first: Opinion | None, failure: dict[str, Any], sure_above: float) -> list[Doubt]:
    """Why the fallback is asked; empty where it is not."""
    return [Doubt("no_mask", failure["reason"])] if first is None else first.doubts(sure_above)


def _ask(bench: Workbench, tool: Grounder) -> tuple[Opinion | None, dict[str, Any]]:
    """What a tool says, or with None how it failed to find anything."""
    frame, table, query = _grounding_input(bench)
    left = referents.left_in_the_race(frame, table, query)
    try:
        found = [p for p in tool.find(frame, left, query) if not referents.is_ruled_out(p, table, left)]
        return opinion_of(_best(found), frame, left, query), {}
    except StageFailure as failure:
        if not failure.code.startswith("grounding."):
            raise
        return None, {"code": failure.code, "reason": failure.message, **failure.evidence}


def _take(bench: Workbench, part: PartMask, confidence: float, presence: float) -> None:
    """The mask that the next stages work on, with the confidence that is held of it after all answers."""
    referents.ask_which(*_grounding_input(bench), part, bench.rival_share)
    evidence = {**part.evidence, "raw_confidence": part.confidence}
    bench.store.put("part_mask", replace(part, confidence=confidence, presence=presence, evidence=evidence))


def _not_found(query: FunctionalQuery, decision: Decision, evidence: dict[str, Any]) -> StageFailure:
    if decision.reason == "none_plausible":
        message = f"{decision.says}. Turn the thing so that its part is in view, or bring the camera nearer."
        return StageFailure("ground", "grounding.implausible", message, **evidence)
    wanted = query.object_words or query.category or "that"
    message = f"I see no {wanted} on the table: {decision.says}. Name it otherwise, or put it into view."
    return StageFailure("ground", "grounding.not_found", message, **evidence)


def _asked_because(state: GraspState) -> list[dict[str, Any]]:
    """The doubts of the record that `ground` left."""
    record = next((r for r in reversed(state.get("stages", [])) if r["stage"] == "ground"), None)
    return [] if record is None else record["evidence"].get("doubts", [])


def _plain(doubts: list[Doubt]) -> list[dict[str, str]]:
    return [{"reason": doubt.reason, "says": doubt.says} for doubt in doubts]


def _described(opinion: Opinion) -> str:
    kind = "" if opinion.calibrated else " (uncalibrated)"
    return f"{opinion.part.tool}: {int(opinion.part.mask.sum())} px, confidence {opinion.confidence:.2f}{kind}"


def _grounding_input(bench: Workbench) -> tuple[Any, Any, Any]:
    return bench.store.get("frame"), bench.store.get("table"), bench.store.get("query")


def _best(parts: list[PartMask]) -> PartMask:
    """The first mask that is not empty."""
    part = next((p for p in parts if p.mask.any()), None)
    if part is None:
        raise StageFailure("ground", "grounding.empty_mask", "the tool answered with blank masks only")
    return part
