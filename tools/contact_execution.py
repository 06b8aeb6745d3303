"""Carry out a contact motion: the force on the tcp is looked at between the pieces of its stroke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.robot.interface import Arm, MotionResult
from affordagent.tools.motion.contact import ContactPlan

STROKE = "stroke"


@dataclass(frozen=True)
class StrokeReport:
    """pieces: of the stroke that were made, of how many. force_n: on the tcp at its end, None where none is measured.
    felt: whether the force ended it."""

    pieces: int
    of: int
    force_n: float | None
    felt: bool


def make_stroke(arm: Arm, plan: ContactPlan, on_piece: Callable[[], None] = lambda: None) -> StrokeReport:
    """Open or close the fingers, go there, come down, and make the stroke until it ends or meets `stop_n`.

    on_piece: called before the stroke and after each piece of it.

    Raises:
        StageFailure: ("execute", code): the code of the motion that ended early, execution.gripper, or
            execution.no_contact (nothing resisted, though the plan wants it; the arm has drawn back).
    """
    _sent(arm.grip(plan.opening_m, "fingers"), "fingers")
    _sent(arm.follow(plan.to_above, "to_above"), "to_above")
    _sent(arm.follow(plan.down, "down"), "down")
    on_piece()
    force_n: float | None = None
    for count, piece in enumerate(plan.stroke, start=1):
        _sent(arm.follow(piece, STROKE), STROKE)
        on_piece()
        felt = arm.read().tcp_force_n
        force_n = None if felt is None else float(np.linalg.norm(felt))
        if force_n is not None and force_n >= plan.stop_n:
            return StrokeReport(count, len(plan.stroke), force_n, True)
    if plan.must_touch and force_n is not None:
        leave(arm, plan, StrokeReport(len(plan.stroke), len(plan.stroke), force_n, False))
        raise StageFailure(
            "execute",
            "execution.no_contact",
            f"at the end of the stroke the tcp felt {force_n:.1f} N, {plan.stop_n:.0f} N were looked for: look again",
            force_n=round(force_n, 2),
        )
    return StrokeReport(len(plan.stroke), len(plan.stroke), force_n, False)


def leave(arm: Arm, plan: ContactPlan, made: StrokeReport) -> None:
    """Back to where the arm was, by the way it came.

    Raises:
        StageFailure: ("execute", code): the code of the motion that ended early.
    """
    for name, motion in plan.way_back(made.pieces):
        _sent(arm.follow(motion, name), name)


def _sent(result: MotionResult, name: str) -> None:
    if not result.reached:
        raise StageFailure(
            "execute", result.code or "execution.tracking", f"{name} ended early: {result.message}", phase=name
        )
