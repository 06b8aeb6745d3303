"""The steps of a plan as a person would say them."""

from __future__ import annotations

from affordagent.core.run_store import RunStore
from affordagent.robot.hand_over import HandOver
from affordagent.tools.steps import Grip, Hold, Offer, Step, all_steps, delivery_steps

_WAYS = {
    "to_pregrasp": "move to before the grasp",
    "approach": "go straight to it",
    "lift": "lift it straight up",
    "carry": "carry it",
    "lower": "lower it straight down",
    "back_off": "draw the hand back",
}


def steps_of(store: RunStore, hand_over: HandOver) -> tuple[Step, ...]:
    """What the plan of a run will send; what an earlier run has left in the hand is only delivered."""
    plan = store.get("plan")
    holds = not any(event["event"] == "stage" and event["stage"] == "look" for event in store.events())
    if holds and plan.delivery is not None:
        return delivery_steps(plan.delivery, hand_over)
    return all_steps(plan, hand_over)


def in_words(step: Step) -> str:
    """One step, with its millimetres or seconds."""
    match step.command:
        case Grip(width_m) if step.name == "close":
            return "close the fingers"
        case Grip(width_m):
            return f"open the fingers to {1e3 * width_m:.0f} mm"
        case Hold(duration_s):
            return f"wait {duration_s:.0f} s"
        case Offer(settings, _):
            return f"hold it out until it is taken, at most {settings.timeout_s:.0f} s"
        case path:
            return f"{_WAYS.get(step.name, step.name)} ({path.duration_s:.1f} s)"
