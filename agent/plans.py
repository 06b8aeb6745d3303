"""What a commanded cell answers with, and whether a plan still holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.agent.session import Session
from affordagent.core.errors import NeedsClarification, Refused, StageFailure
from affordagent.core.run_store import RunStore
from affordagent.core.types import PartMask, RgbdFrame, TableScene
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD
from affordagent.tools.scene_change import things_that_changed


@dataclass(frozen=True)
class Ended:
    """A run that has ended. failure: stage, code, message and evidence of what ended it."""

    run: Path
    outcome: str
    failure: dict[str, Any] | None

    @staticmethod
    def of(run: Path, outcome: str, failure: dict[str, Any] | None) -> Ended:
        if failure is None:
            return Ended(run, outcome, None)
        stages = [e for e in RunStore(run).events() if e["event"] == "stage"]
        evidence = stages[-1]["evidence"] if stages and stages[-1]["code"] == failure["code"] else {}
        return Ended(run, outcome, {**failure, "evidence": evidence})

    def as_failure(self) -> StageFailure:
        assert self.failure is not None
        kinds = {"refused": Refused, "needs_clarification": NeedsClarification}
        kind = kinds.get(self.outcome, StageFailure)
        evidence = {**self.failure["evidence"], "run": self.run}
        return kind(self.failure["stage"], self.failure["code"], self.failure["message"], **evidence)


@dataclass(frozen=True)
class OpenPlan:
    """A motion that waits for its word. says: what will happen, and what is asked. steps: in words, in order. motion_s:
    how long it takes, without waits. run: folder of the run; None for the arm's way out of the camera's view.
    needs_person: a person is to confirm it."""

    id: str
    says: str
    steps: tuple[str, ...]
    motion_s: float
    run: Path | None
    made_s: float  # time.monotonic()
    positions: tuple[float, ...] | None  # of the arm's joints then
    needs_person: bool


@dataclass(frozen=True)
class Turn:
    """What a command has come to. said: by the robot, in order. plan: that waits now. question: to answer with the next
    command, with its choices. ended: the runs that ended. run: the latest folder."""

    said: tuple[str, ...]
    plan: OpenPlan | None
    question: dict[str, Any] | None
    ended: tuple[Ended, ...]
    run: Path | None


@dataclass(frozen=True)
class Seen:
    """A look: what stands on the table. arm_in_view: the arm is not where it waits, and may hide things."""

    frame: RgbdFrame
    table: TableScene
    arm_in_view: bool


@dataclass(frozen=True)
class Found:
    """What a command would take."""

    name: str
    part: str | None
    mask: PartMask
    run: Path


def stale(why: str, **evidence: Any) -> StageFailure:
    return StageFailure("execute", "planning.stale", f"the plan no longer holds: {why}. Plan again", **evidence)


def check_unchanged(session: Session, plan: OpenPlan) -> None:
    """Before a plan is carried out: are arm and table as they were when it was made? The table is looked at where the
    arm waits out of the camera's view; elsewhere the arm stands as the plan found it, with what it holds.

    Raises:
        StageFailure: ("execute", "planning.stale"), or (stage, code) of a camera or an arm that does not answer.
    """
    now_q = positions_of(session)
    if now_q is not None and plan.positions is not None:
        off_rad = float(np.abs(np.subtract(now_q, plan.positions)).max())
        if off_rad > GOAL_TOLERANCE_RAD:
            why = f"the arm was moved by {off_rad:.3f} rad, limit {GOAL_TOLERANCE_RAD}"
            raise stale(why, off_rad=round(off_rad, 4), limit_rad=GOAL_TOLERANCE_RAD)
    if plan.run is None or is_in_view(session):
        return
    store = RunStore(plan.run)
    changed = things_that_changed(store.get("frame"), store.get("table"), session.cell.look())
    if changed:
        boxes = [list(thing.box) for thing in changed]
        raise stale(f"{len(changed)} things on the table moved, came or went", changed_boxes=boxes)


def check_clear(session: Session) -> None:
    """Raises:
    StageFailure: ("look", "camera.arm_in_view"): the arm would be taken for a thing, or hide some.
    """
    if is_in_view(session):
        raise StageFailure(
            "look",
            "camera.arm_in_view",
            "the arm stands where the camera looks: plan a motion first, which begins with moving it away, or deliver "
            "what it holds",
        )


def is_in_view(session: Session) -> bool:
    positions = positions_of(session)
    return positions is not None and float(np.abs(np.subtract(positions, LOOK_Q)).max()) > GOAL_TOLERANCE_RAD


def positions_of(session: Session) -> tuple[float, ...] | None:
    """(6,) rad of the joints now; None without an arm."""
    arm = session.cell.arm
    return None if arm is None else tuple(float(q) for q in arm.read().positions)
