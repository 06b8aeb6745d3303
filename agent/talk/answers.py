"""Answers to a person's questions, from what the run folders hold; where they hold nothing, that is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from affordagent.agent.results import RESULT_FILE
from affordagent.agent.talk.steps import name_of
from affordagent.core.failure_guide import guide
from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, PartMask
from affordagent.graphs.dialogue import Thing
from affordagent.graphs.referents import choices_of

NOTHING_YET = "I have done nothing yet."


def about_held(held: Thing | None) -> str:
    """What the hand holds."""
    if held is None:
        return "I hold nothing."
    query = FunctionalQuery.model_validate(held["query"])
    return f"I hold the {name_of(query)}" + (f" by its {query.part}." if query.part else ".")


def about_failure(run: Path | None) -> str:
    """What went wrong in the last run, and what would help."""
    result = _result(run)
    if result is None:
        return NOTHING_YET
    failure = result["failure"]
    if failure is None:
        return f"Nothing failed: “{result['command']}” ended well. {about_choice(run)}"
    if result["outcome"] in ("refused", "needs_clarification"):
        return f"It did not fail: {failure['message']}"
    mends = guide(failure["code"]).mends
    advice = f" What helps: {mends[0]}" if mends else ""
    message = failure["message"].rstrip(".")
    return f"It ended at the stage “{failure['stage']}” ({failure['code']}): {message}.{advice}"


def about_choice(run: Path | None) -> str:
    """Why that thing was taken, and not another one."""
    store = None if run is None else RunStore(run)
    if store is None or not (store.has("part_mask") and store.has("query")):
        return "I have not chosen anything yet."
    part, query = store.get("part_mask"), store.get("query")
    name = name_of(query)
    if part.tool == "person":
        return f"You marked it in the picture: that is the {name} for me."
    lines = []
    if query.at_m is not None:
        lines.append("It is the one that you chose.")
    else:
        lines.append(_by_score(store, part, name))
        if query.attributes:
            lines.append(f"I went by {_and([f'{kind} {word}' for kind, word in query.attributes.items()])}.")
    if query.not_at_m:
        lines.append("What you had ruled out was out of the race.")
    held = f" by the {query.part}" if query.part else ""
    lines.append(f"That it is the right thing{held} is {100 * part.confidence:.0f} % sure, by {_tool(part)}.")
    return " ".join(lines)


def _by_score(store: RunStore, part: PartMask, name: str) -> str:
    scores = {int(key): float(value) for key, value in (part.evidence.get("shares") or {}).items()}
    own = part.evidence.get("proposal")
    if own not in scores or not store.has("table"):
        return f"It is what fits “{name}” best in the picture."
    things = [p for p in store.get("table").proposals if p.id in scores]
    labels = {p.id: c.label for p, c in zip(things, choices_of(store.get("frame"), things), strict=True)}
    total = max(sum(scores.values()), 1e-9)
    mine = f"Of the {len(scores)} things I saw, {labels.get(own, 'it')} fits “{name}” best"
    others = sorted((p.id for p in things if p.id != own), key=lambda i: -scores[i])
    if not others:
        return f"Only one thing was left to choose from: {labels.get(own, 'it')}."
    second = others[0]
    return (
        f"{mine}: a share of {100 * scores[own] / total:.0f} %, and {labels[second]} comes next with "
        f"{100 * scores[second] / total:.0f} %."
    )


def _tool(part: PartMask) -> str:
    return {"affordance_vlm": "the trained model", "tabletop": "looks, size and shape"}.get(part.tool, part.tool)


def about_plan(run: Path | None) -> str:
    """What would move, by the plan of the run under way or of the last one."""
    store = None if run is None else RunStore(run)
    if store is None or not store.has("plan"):
        return "There is no plan yet: tell me what you want."
    query, plan = store.get("query"), store.get("plan")
    held = f" by its {query.part}" if query.part else ""
    text = f"The hand opens to {100 * plan.opening_m:.0f} cm and takes the {name_of(query)}{held}"
    if plan.delivery is None:
        return f"{text}, and lifts it."
    if plan.delivery.kind == "hand_over":
        return f"{text}, holds it out to you, and lets go when you pull."
    return f"{text}, and puts it {query.destination.place}." if query.destination else f"{text}, and puts it down."


def _result(run: Path | None) -> dict[str, Any] | None:
    if run is None or not (run / RESULT_FILE).is_file():
        return None
    found: dict[str, Any] = json.loads((run / RESULT_FILE).read_text())
    return found


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
