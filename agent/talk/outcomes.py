"""What a talk makes of a run that has ended: what is said, asked, and remembered of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from affordagent.agent.results import RunResult
from affordagent.core.geometry import invert, transform_points
from affordagent.core.run_store import RunStore
from affordagent.core.types import Destination, FunctionalQuery
from affordagent.graphs.dialogue import Question, Thing
from affordagent.robot.arms import ArmName


def went_well(result: RunResult) -> bool:
    return result.outcome in ("success", "planned")


def summary(result: RunResult) -> str:
    """What came of a run, in a sentence or two."""
    query = result.query or {}
    name = query.get("object_words") or query.get("category") or "thing"
    if result.outcome == "success":
        if query.get("intent") == "hand_over":
            return f"You have the {name}."
        if query.get("destination"):
            place = Destination.model_validate(query["destination"]).place
            return f"Done: the {name} is {place}."
        return f"I hold the {name}" + (f" by its {query['part']}." if query.get("part") else ".")
    failure = result.failure or {}
    last: dict[str, Any] = result.stages[-1] if result.stages else {"message": "", "evidence": {}}
    message = str(failure.get("message") or last["message"])
    if failure.get("stage") == "verify":
        failed = [check.replace("_", " ") for check, ok in last["evidence"].get("checks", {}).items() if not ok]
        return f"It did not go as it should; not passed: {', '.join(failed)}." if failed else message
    if failure.get("code") == "grounding.not_found":  # "why?" tells the rest
        return f"I see no {name} on the table. Name it otherwise, or put it into view."
    return message


def question_of(result: RunResult, query: FunctionalQuery) -> Question | None:
    """What a run that needs an answer asks."""
    if result.outcome != "needs_clarification":
        return None
    evidence: dict[str, Any] = result.stages[-1]["evidence"]
    choices = list(evidence.get("choices", []))
    text = str(evidence.get("question") or (result.failure or {}).get("message", ""))
    plain = query.model_dump(mode="json")
    return {"kind": "which" if choices else "what", "text": text, "query": plain, "choices": choices, "acts": []}


def thing_of(store: RunStore, result: RunResult, query: FunctionalQuery, held: Thing | None, arm: ArmName) -> Thing:
    """Which thing a run was about. held: what it delivered."""
    wish = query.model_copy(update={"at_m": None}).model_dump(mode="json")
    return {
        "query": wish if held is None else held["query"],  # as it was first wanted: "no, by the rim" asks for that
        "run": result.run_dir.name,
        "at_m": _where(store, result, arm),
        "ruled_out": [list(p) for p in query.not_at_m],
    }


def _where(store: RunStore, result: RunResult, arm: ArmName) -> list[float] | None:
    """(3,) a point of the thing, base frame: where it was seen, or where it has been put."""
    from affordagent.robot.kinematics import ArmKinematics

    if not store.has("cloud"):
        return None
    at = np.median(store.get("cloud").object, axis=0)
    plan = store.get("plan") if store.has("plan") else None
    if plan is not None and plan.delivery is not None and result.outcome == "success":
        T_base_tcp = ArmKinematics(arm).forward(plan.approach.positions[-1])
        at = transform_points(plan.delivery.T_base_tcp @ invert(T_base_tcp), at[None])[0]
    return [float(x) for x in at]


def latest(root: Path, name: str | None) -> Path | None:
    """The folder of a run of this talk, None where there is none any more."""
    folder = None if name is None else root / name
    return folder if folder is not None and folder.is_dir() else None
