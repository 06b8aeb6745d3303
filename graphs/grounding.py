"""The nodes that find the part to hold: the trained model first, the fallback tool where that is in doubt."""

from __future__ import annotations

from typing import Any

from affordagent.core.errors import StageFailure
from affordagent.core.types import PartMask
from affordagent.graphs.stages import Done
from affordagent.graphs.state import GraspState, Workbench


def ground(bench: Workbench, state: GraspState) -> Done:
    """The part to hold, by the trained model."""
    try:
        part = _best(bench, bench.grounder.find(*_grounding_input(bench)))
    except StageFailure as failure:
        if not failure.code.startswith("grounding."):
            raise
        reason = {"code": failure.code, "reason": failure.message, **failure.evidence}
        return Done(f"not found: {failure.message}", reason, {"grounding": "failed"})
    bench.store.put("part_mask", part)
    sure = part.confidence >= bench.sure_above
    doubt = "" if sure else f", below {bench.sure_above:.2f}: asking the fallback"
    return Done(
        f"{part.tool}: {int(part.mask.sum())} px, confidence {part.confidence:.2f}{doubt}",
        {"tool": part.tool, "confidence": part.confidence, "pixels": int(part.mask.sum())},
        {"grounding": "sure" if sure else "doubtful"},
    )


def ground_again(bench: Workbench, state: GraspState) -> Done:
    """A second opinion by the fallback tool: the more confident of the two masks is taken, and the record says why."""
    query = bench.store.get("query")
    first: PartMask | None = bench.store.get("part_mask") if state.get("grounding") == "doubtful" else None
    second = _best(bench, bench.fallback.find(*_grounding_input(bench)))
    part = first if first is not None and first.confidence >= second.confidence else second
    evidence = {
        "tool": part.tool,
        "confidence": part.confidence,
        "considered": {p.tool: p.confidence for p in (first, second) if p is not None},
    }
    if part.is_there < bench.present_above:
        wanted = query.object_words or query.category or "that"
        raise StageFailure(
            "ground",
            "grounding.not_found",
            f"I see no {wanted} on the table: the best match is there with probability {part.is_there:.2f}, "
            f"needed {bench.present_above:.2f}. Name it otherwise, or put it into view.",
            **evidence,
        )
    bench.store.put("part_mask", part)
    return Done(f"{part.tool}: {int(part.mask.sum())} px, confidence {part.confidence:.2f}", evidence)


def _grounding_input(bench: Workbench) -> tuple[Any, Any, Any]:
    return bench.store.get("frame"), bench.store.get("table"), bench.store.get("query")


def _best(bench: Workbench, parts: list[PartMask]) -> PartMask:
    """The first mask that is not empty."""
    part = next((p for p in parts if p.mask.any()), None)
    if part is None:
        raise StageFailure("ground", "grounding.empty_mask", "the tool answered with blank masks only")
    return part
