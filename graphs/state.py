"""What flows through the graph, and what its nodes work with."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, TypedDict

from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, OutcomeName, PartMask, RgbdFrame, StageRecord, TableScene
from affordagent.robot.arms import ArmName
from affordagent.robot.hand_over import HandOver
from affordagent.robot.interface import Cell
from affordagent.robot.limits import MotionLimits
from affordagent.robot.safety import SafeArm
from affordagent.tools.grasping.antipodal import Antipodal
from affordagent.tools.grasping.backends import Backend


class GraspState(TypedDict, total=False):
    """Small, and JSON's own types only: artefacts live in the run folder, under the names of `RunStore`."""

    command: str
    outcome: OutcomeName
    grounding: Literal["sure", "doubtful", "failed"]
    places: bool  # the object is to be put somewhere: the destination is looked for too
    held: bool  # the hand holds the object, from an earlier run: it is only delivered
    failure: dict[str, Any] | None  # stage, code, message of what ended the run
    stages: Annotated[list[dict[str, Any]], operator.add]


class Grounder(Protocol):
    """A tool that finds the part to hold: masks ranked best first, at least one, or a StageFailure.

    `load` gets its models ready before the first question.
    """

    def load(self) -> None: ...

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]: ...


@dataclass(frozen=True)
class Workbench:
    """The handles and settings that the nodes use; made once for a run by `agent.session`.

    arm: the cell's, under the safety layer; all commands go through it. arm_model: which one it is.
    dry_run: the plan is the result, the arm is only read. stopped: has a person stopped the run? swaps: nodes that do
    something else than usual, by name: faults and repairs of an evaluation, simulated cells only. rival_share: share of
    the best thing's score from which another one is asked about; None = never.
    """

    cell: Cell
    arm: SafeArm | None
    store: RunStore
    understand: Callable[[str], FunctionalQuery]
    grounder: Grounder
    fallback: Grounder
    limits: MotionLimits
    sure_above: float  # confidence from which the grounder's mask is taken without a second opinion
    present_above: float  # probability below which the thing counts as not in the scene
    ask_before_motion: bool
    seed: int
    on_stage: Callable[[str], None]
    on_record: Callable[[StageRecord], None]
    dry_run: bool = False
    arm_model: ArmName = "UR5e"
    hand_over: HandOver = field(default_factory=HandOver)
    stopped: Callable[[], bool] = lambda: False
    grasp_backend: Backend = field(default_factory=Antipodal)
    swaps: Mapping[str, Stage] = field(default_factory=dict)
    rival_share: float | None = None


@dataclass(frozen=True)
class Done:
    """What a stage says when it worked: a line for people, evidence for the record, changes of the state."""

    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    update: GraspState = field(default_factory=lambda: GraspState())


Stage = Callable[[Workbench, GraspState], Done]
