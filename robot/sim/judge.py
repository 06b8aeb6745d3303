"""Was the right thing done? The simulator's own answer, from contacts and true poses; tools never see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from affordagent.core.geometry import Array, invert, rotation_angle
from affordagent.core.types import Verdict
from affordagent.robot.sim.contacts import PhaseLog
from affordagent.robot.sim.delivery_judge import CODES as DELIVERY_CODES

LIFTED_M = 0.15
SLIP_M = 0.005
ROTATION_RAD = np.deg2rad(10)
KNOCKED_M, KNOCKED_RAD = 0.02, np.deg2rad(15)
HARD_CONTACT_N = 20.0
HELD_SHARE = 0.98  # of the hold's samples with a pad on the object
PART_SHARE = 0.5  # of the pads' force that must be on the right part

CODES = {  # check -> code of its failure, in the order of precedence
    "right_object": "grounding.wrong_object",
    "touched": "execution.no_contact",
    "right_part": "grounding.wrong_part",
    "lifted": "execution.drop",
    "held_2s": "execution.drop",
    "slip": "execution.slip",
    "rotation": "execution.slip",
    "nothing_knocked": "execution.collision",
}


@dataclass(frozen=True)
class Gold:
    """What the evaluation knows to be right. objects: names of which any will do. part: to hold, None = any."""

    objects: frozenset[str]
    part: str | None = None


def judge_motion(
    log: dict[str, PhaseLog],
    before: dict[str, Array],
    aimed_at: str | None,
    part: str | None,
    gold: Gold | None,
    delivered: Callable[[dict[str, float]], dict[str, bool]] | None = None,
) -> Verdict:
    """Strict checks of an executed grasp, and of what followed it.

    log: phases of `tools.execution`. before: T_base_body of the loose bodies before the motion. aimed_at: name of the
    object the grasp was planned on (None: on nothing). part: asked for, None = any; `gold` overrules it. delivered: the
    checks of the delivery, see `delivery_judge`.
    """
    checks: dict[str, bool] = {}
    measured: dict[str, float] = {}
    if gold is not None:
        checks["right_object"] = aimed_at in gold.objects
        part = gold.part
    checks |= _touch_checks(log, aimed_at, part, measured)
    checks |= _hold_checks(log, aimed_at, measured)
    checks["nothing_knocked"] = _nothing_knocked(log, before, aimed_at, measured)
    checks |= {} if delivered is None else delivered(measured)
    codes = CODES | DELIVERY_CODES
    failed = [name for name in codes if not checks.get(name, True)]
    rounded = {name: round(value, 5) for name, value in measured.items()}
    return Verdict(not failed, codes[failed[0]] if failed else None, checks, rounded, "simulator")


def _touch_checks(
    log: dict[str, PhaseLog], aimed_at: str | None, part: str | None, measured: dict[str, float]
) -> dict[str, bool]:
    on_object: dict[str, float] = {}
    for phase in ("close", "lift", "hold"):
        for (name, on_part), force in (log[phase].pads_n if phase in log else {}).items():
            if name == aimed_at:
                on_object[on_part] = on_object.get(on_part, 0.0) + force
    total = sum(on_object.values())
    share = (1.0 if part is None else on_object.get(part, 0.0) / total) if total > 0 else 0.0
    measured["part_share"] = share
    return {"touched": total > 0, "right_part": share >= PART_SHARE}


def _hold_checks(log: dict[str, PhaseLog], aimed_at: str | None, measured: dict[str, float]) -> dict[str, bool]:
    """The grasped point (where the tcp was when the fingers closed) is followed through lift and hold."""
    names = ("lifted", "held_2s", "slip", "rotation")
    if aimed_at is None or "close" not in log or "hold" not in log:
        return dict.fromkeys(names, False)
    closed, end, hold = log["close"].T_base_body, log["hold"].T_base_body, log["hold"]
    T_tcp_before = invert(closed["tcp"]) @ closed[aimed_at]
    T_tcp_after = invert(end["tcp"]) @ end[aimed_at]
    point_object = invert(T_tcp_before)[:3, 3]
    grasped = (end[aimed_at] @ np.r_[point_object, 1.0])[:3]
    measured["lift_m"] = float(grasped[2] - closed["tcp"][2, 3])
    measured["slip_m"] = float(np.linalg.norm(T_tcp_after[:3, :3] @ point_object + T_tcp_after[:3, 3]))
    measured["rotation_rad"] = rotation_angle(T_tcp_before[:3, :3].T @ T_tcp_after[:3, :3])
    held_share = hold.samples_with_pads / max(hold.samples, 1)
    return {
        "lifted": measured["lift_m"] >= LIFTED_M,
        "held_2s": held_share >= HELD_SHARE and measured["lift_m"] >= LIFTED_M,
        "slip": measured["slip_m"] < SLIP_M,
        "rotation": measured["rotation_rad"] < float(ROTATION_RAD),
    }


def _nothing_knocked(
    log: dict[str, PhaseLog], before: dict[str, Array], aimed_at: str | None, measured: dict[str, float]
) -> bool:
    last = [phase.T_base_body for phase in log.values() if phase.T_base_body]
    after = last[-1] if last else before
    others = [name for name in before if name not in (aimed_at, "tcp")]
    moved = [float(np.linalg.norm(after[n][:3, 3] - before[n][:3, 3])) for n in others]
    turned = [rotation_angle(before[n][:3, :3].T @ after[n][:3, :3]) for n in others]
    measured["others_moved_m"] = max(moved, default=0.0)
    measured["others_turned_rad"] = max(turned, default=0.0)
    measured["table_force_n"] = max((phase.table_force_n for phase in log.values()), default=0.0)
    return (
        measured["others_moved_m"] <= KNOCKED_M
        and measured["others_turned_rad"] <= KNOCKED_RAD
        and measured["table_force_n"] <= HARD_CONTACT_N
    )
