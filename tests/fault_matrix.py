"""Every fault in every stage of a grasp: the real chain (`execute`, journal, safety layer, driver, gripper) against the
emulated controller in its own process, and what was seen of it from outside, by the controller's own clock.

    python tests/fault_matrix.py docs/results/fault_matrix.jsonl > docs/fault_matrix.md
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.journal import Motion, MotionJournal, read_motions
from affordagent.core.types import Grasp, GraspPlan, JointTrajectory
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.gripper import RobotiqGripper
from affordagent.robot.interface import READY_Q
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.safety import SafeArm
from affordagent.robot.ur5.arm import UrArm
from affordagent.robot.ur5.cell import T_FLANGE_TCP
from affordagent.robot.ur5.config import Ur5Config
from affordagent.tools.execution import execute
from affordagent.tools.motion.trajectory import joint_motion

STEPS = ("open", "to_pregrasp", "approach", "close", "lift", "hold")
STAGES = ("idle", *STEPS)
ARM_STEPS, FINGER_STEPS = ("to_pregrasp", "approach", "lift"), ("open", "close")

STANDS_WITHIN_S = 0.5  # of controller time, after the fault
AT_REST_RAD_S, SAME_RAD, SAME_M = 1e-3, 2e-3, 1e-3
OPENING_M, OBJECT_M, HOLD_S = 0.06, 0.03, 0.6
FINGER_SPEED_M_S = 0.15
START_Q = READY_Q - np.array([0.45, 0, 0, 0, 0, 0])
PAN_RAD = {"to_pregrasp": 0.2, "approach": 0.12, "lift": 0.12}  # all one way, so that nothing done twice goes unseen
RUN_S = 40.0  # wall time in which a run must have ended, however slow the machine
SLOW, CRAWL = 3.0, 60.0  # times slower than told


@dataclass(frozen=True)
class Fault:
    """inject: do it. code: of the failure. hits: steps that cannot go on with it; the run ends in the first of them,
    and succeeds where none is left. stops_arm: it ends any motion. lasts: a person has to clear it at the pendant.
    refused: until then `make_ready` says so (with `code`, or `refusal`) and nothing moves."""

    inject: Callable[[Bench], None]
    code: str | None
    hits: tuple[str, ...] = STEPS
    stops_arm: bool = True
    lasts: bool = False
    refusal: str | None = None


def _told(name: str, **options: Any) -> Callable[[Bench], None]:
    return lambda bench: bench.admin.fault(name, **options)


def _signalled(number: signal.Signals) -> Callable[[Bench], None]:
    return lambda bench: os.kill(bench.worker_pid, number)


FAULTS: dict[str, Fault] = {
    "protective_stop": Fault(_told("protective_stop"), "execution.protective_stop", lasts=True),
    "emergency_stop": Fault(
        _told("emergency_stop"), "execution.emergency_stop", lasts=True, refusal="execution.emergency_stop"
    ),
    "safeguard_stop": Fault(
        _told("safeguard_stop"), "execution.safeguard_stop", lasts=True, refusal="execution.safeguard_stop"
    ),
    "violation": Fault(_told("violation"), "execution.safety_fault", lasts=True, refusal="execution.safety_fault"),
    "power_off": Fault(_told("power_off"), "execution.power_off", lasts=True, refusal="execution.power_off"),
    "local_control": Fault(
        _told("local_control"), "execution.local_control", lasts=True, refusal="execution.local_control"
    ),
    "program_death": Fault(_told("program_death"), "execution.program"),
    "link_drop": Fault(_told("link_drop"), "execution.comms"),
    "link_refuse": Fault(_told("link_refuse"), "execution.comms", lasts=True),
    "link_stall": Fault(_told("link_stall"), "execution.comms", lasts=True),
    "worker_killed": Fault(_signalled(signal.SIGKILL), "execution.comms"),
    "worker_frozen": Fault(_signalled(signal.SIGSTOP), "execution.comms"),
    "person_stops": Fault(lambda bench: bench.arm.stop(), "execution.stopped"),
    "slow": Fault(_told("slow", factor=SLOW), None, hits=(), stops_arm=False, lasts=True),
    "crawl": Fault(_told("slow", factor=CRAWL), "execution.timeout", hits=ARM_STEPS, stops_arm=False, lasts=True),
    "gripper_jam": Fault(_told("gripper_jam"), "execution.gripper", hits=FINGER_STEPS, stops_arm=False, lasts=True),
    "gripper_drop": Fault(_told("gripper_drop"), "execution.gripper", stops_arm=False, lasts=True),
}


def wait_until(admin: EmulatorClient, t: float) -> None:
    """By the controller's clock."""
    while admin.state()["t"] < t:
        time.sleep(0.003)


class Bench:
    """An emulated controller in its own process and the arm that is driven on it: a new one whenever `renew` was
    called, otherwise the same one, fault after fault."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.limits = MotionLimits()
        self._stack = ExitStack()
        self._arm: UrArm | None = None
        self._safe: SafeArm | None = None

    def __enter__(self) -> Bench:
        self.restart_controller()
        return self

    def __exit__(self, *exc: object) -> None:
        self.renew()
        self._stack.close()

    @property
    def arm(self) -> SafeArm:
        """What `execute` gets."""
        if self._safe is None:
            gripper = RobotiqGripper(self.host)
            self._arm = UrArm(self.host, Ur5Config(), gripper, T_FLANGE_TCP)
            self._arm.__enter__()
            self._safe = SafeArm(self._arm, self.limits, ArmKinematics())
        return self._safe

    def renew(self) -> None:
        if self._arm is not None:
            self._arm.__exit__(None, None, None)
        self._arm = self._safe = None

    @property
    def worker_pid(self) -> int:
        assert self._arm is not None
        assert self._arm._link is not None
        return self._arm._link.pid

    def restart_controller(self) -> None:
        """Switch it off, if it was on, and on again."""
        self._stack.close()
        self.admin = self._stack.enter_context(start_emulator(self.host)).admin

    def clear(self) -> None:
        """As a person at the pendant does it, who takes longer than the news of it."""
        wait_until(self.admin, self.admin.clear() + 0.1)

    def set_up(self) -> None:
        """No fault, the arm at START_Q, the fingers closed, and something to close on once they are open."""
        self.clear()
        self.admin.object(None)
        self.arm.make_ready()
        wait_until(self.admin, self.admin.place(START_Q.tolist()) + 0.1)
        if self.admin.state()["gripper"]["width_m"] > SAME_M:
            assert self.arm.grip(0.0, "set_up").reached
        self.admin.object(OBJECT_M)


def small_plan(limits: MotionLimits) -> GraspPlan:
    """A grasp with short motions of 0.6 to 0.8 s."""
    q, motions = START_Q, []
    for pan_rad in PAN_RAD.values():
        goal = q + np.array([pan_rad, 0, 0, 0, 0, 0])
        motions.append(joint_motion(np.stack([q, goal]), limits))
        q = goal
    return GraspPlan(Grasp(np.eye(4), OBJECT_M, 0.9), 0, OPENING_M, *motions)


def stage_s(plan: GraspPlan, stage: str) -> float:
    """About how long a stage lasts, controller time."""
    match stage:
        case "idle":
            return 0.2
        case "open":
            return OPENING_M / FINGER_SPEED_M_S
        case "close":
            return (OPENING_M - OBJECT_M) / FINGER_SPEED_M_S
        case "hold":
            return HOLD_S
    motion: JointTrajectory = getattr(plan, stage)
    return motion.duration_s


@dataclass(frozen=True)
class Sample:
    t: float
    q: Array
    speed_rad_s: float
    opening_m: float


class Watch:
    """`with Watch(host) as watch:` a thread asks the controller where its arm is, over and over."""

    def __init__(self, host: str) -> None:
        self.samples: list[Sample] = []
        self._host, self._done = host, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join(10)

    def _run(self) -> None:
        with EmulatorClient(self._host) as admin:
            while not self._done.wait(0.008):
                state = admin.state()
                speed = float(np.abs(state["qd"]).max())
                self.samples.append(Sample(state["t"], np.array(state["q"]), speed, state["gripper"]["width_m"]))

    def stood_after_s(self, fault_t: float) -> float:
        """From the fault to the last time the arm was seen to move, controller seconds; 0 when it never did."""
        return max((s.t - fault_t for s in self.samples if s.t > fault_t and s.speed_rad_s > AT_REST_RAD_S), default=0)

    def fingers_stood_after_s(self, fault_t: float) -> float:
        after = [s for s in self.samples if s.t > fault_t]
        moves = [b.t - fault_t for a, b in zip(after, after[1:], strict=False) if abs(a.opening_m - b.opening_m) > 1e-6]
        return max(moves, default=0.0)

    def turned_back_rad(self) -> float:
        """How far the arm ever went against the way of the plan."""
        pan = np.array([s.q[0] for s in self.samples])
        return float((np.maximum.accumulate(pan) - pan).max())


class WatchedJournal(MotionJournal):
    """A journal that tells when the step `stage` has begun."""

    def __init__(self, file: Path, stage: str, began: threading.Event) -> None:
        super().__init__(file)
        self._stage, self._began = stage, began

    def begin(self, step: str, goal: dict[str, Any], start: dict[str, Any]) -> None:
        super().begin(step, goal, start)
        if step == self._stage:
            self._began.set()


@dataclass(frozen=True)
class Cell:
    """What was seen. moment_s: of the fault, after the stage's begin. under_way: steps that were open just before and
    just after the fault. step: in which the run failed, "" = none had begun. stood_after_s: see `Watch`. refused: what
    `make_ready` said before the fault was cleared. wrong: what should not have been, empty = passed."""

    fault: str
    stage: str
    moment_s: float
    under_way: tuple[str, str]
    code: str | None
    step: str | None
    message: str
    stood_after_s: float | None
    motions: int
    refused: str | None
    mended: list[str]
    next_error_rad: float | None
    wall_s: float
    wrong: list[str] = field(default_factory=list)


def run_cell(bench: Bench, fault_name: str, stage: str, folder: Path, seed: int, moment_s: float | None = None) -> Cell:
    """One fault at a random moment of one stage, or at a given one, what came of it, and what comes after it.

    Raises:
        TimeoutError: the run does not end.
    """
    begin_s = time.monotonic()
    fault, plan = FAULTS[fault_name], small_plan(bench.limits)
    rng = np.random.default_rng([seed, list(FAULTS).index(fault_name), STAGES.index(stage)])
    moment_s = float(rng.uniform(0.1, 0.7)) * stage_s(plan, stage) if moment_s is None else moment_s
    bench.set_up()
    motions_before = len(bench.admin.motions())
    file = folder / f"{fault_name}-{stage}.sqlite"
    began = threading.Event()
    with Watch(bench.host) as watch, ThreadPoolExecutor(1) as pool:
        if stage == "idle":
            struck_t, under_way = _strike(bench, fault, file, moment_s)
        run = pool.submit(run_grasp, bench.arm, plan, file, stage, began)
        if stage != "idle":
            while not began.wait(0.1) and not run.done():
                pass
            struck_t, under_way = _strike(bench, fault, file, moment_s)
        failure = run.result(RUN_S)
        wait_until(bench.admin, max(struck_t + STANDS_WITHIN_S, bench.admin.state()["t"]) + 0.1)
    rows, motions = read_motions(file), bench.admin.motions()[motions_before:]
    wrong = [
        *_wrong_stop(fault, fault_name, stage, watch, struck_t),
        *_wrong_failure(fault, stage, under_way, failure, rows),
        *_wrong_journal(failure, rows),
        *_wrong_motions(rows, motions, watch),
    ]
    refused, mended, error_rad, complaints = _next_command(bench, fault)
    return Cell(
        fault=fault_name,
        stage=stage,
        moment_s=round(moment_s, 4),
        under_way=under_way,
        code=None if failure is None else failure.code,
        step=None if failure is None else _failing_step(failure, rows),
        message="" if failure is None else failure.message,
        stood_after_s=round(watch.stood_after_s(struck_t), 3) if fault.stops_arm else None,
        motions=len(motions),
        refused=refused,
        mended=mended,
        next_error_rad=error_rad,
        wall_s=round(time.monotonic() - begin_s, 2),
        wrong=wrong + complaints,
    )


def run_grasp(arm: SafeArm, plan: GraspPlan, file: Path, stage: str, began: threading.Event) -> StageFailure | None:
    """Carry the plan out; `began` is set when `stage` has begun. Returns the failure."""
    with WatchedJournal(file, stage, began) as journal:
        try:
            execute(arm, plan, journal, hold_s=HOLD_S)
        except StageFailure as failure:
            return failure
    return None


def _strike(bench: Bench, fault: Fault, file: Path, after_s: float) -> tuple[float, tuple[str, str]]:
    """Let the fault happen `after_s` from now, by the controller's clock. Returns when, and which step was under way
    just before and just after it."""
    wait_until(bench.admin, bench.admin.state()["t"] + after_s)
    before = _under_way(file)
    struck_t = bench.admin.state()["t"]
    fault.inject(bench)
    return struck_t, (before, _under_way(file))


def _under_way(file: Path) -> str:
    rows = read_motions(file)
    return rows[-1].step if rows and rows[-1].ended is None else ""


# ---- what must hold -------------------------------------------------------------------------------------------------


def _wrong_stop(fault: Fault, name: str, stage: str, watch: Watch, struck_t: float) -> Iterator[str]:
    stood_s, last = watch.stood_after_s(struck_t), watch.samples[-1]
    if fault.stops_arm and stood_s > STANDS_WITHIN_S:
        yield f"the arm still moved {stood_s:.3f} s after the fault"
    if last.speed_rad_s > AT_REST_RAD_S:
        yield f"at the end the arm moves at {last.speed_rad_s:.3f} rad/s"
    if name == "person_stops" and stage in FINGER_STEPS and watch.fingers_stood_after_s(struck_t) > STANDS_WITHIN_S:
        yield "a person's stop left the fingers moving"


def _wrong_failure(
    fault: Fault, stage: str, under_way: tuple[str, str], failure: StageFailure | None, rows: list[Motion]
) -> Iterator[str]:
    expected = {"" if stage == "idle" else stage}
    if under_way[0] not in expected:
        yield f"the fault came while {under_way[0] or 'nothing'} was under way, not {stage}"
    first = {_first_hit(fault, step) for step in (stage, *under_way)}
    if failure is None:
        if None not in first:
            yield f"the run succeeded, {fault.code} was expected"
        return
    step = _failing_step(failure, rows)
    if (failure.stage, failure.code) != ("execute", fault.code):
        yield f"the failure is {failure.stage}, {failure.code}: {failure.message}; {fault.code} was expected"
    if step and step not in first:
        yield f"the run failed in {step}, one of {sorted(map(str, first))} was expected"
    if len(failure.message) < 20:
        yield f"the message says nothing: {failure.message!r}"


def _first_hit(fault: Fault, stage: str) -> str | None:
    """The step in which a run ends that a fault meets in `stage`; None = it succeeds."""
    left = STEPS[STEPS.index(stage) :] if stage in STEPS else STEPS
    return next((step for step in left if step in fault.hits), None)


def _failing_step(failure: StageFailure, rows: list[Motion]) -> str:
    """ "" when it failed between two steps."""
    step = failure.evidence.get("phase", "")
    if not step and failure.code == "execution.gripper" and rows:
        step = rows[-1].step  # its motion ended as it should, and what it found was not enough
    return step


def _wrong_journal(failure: StageFailure | None, rows: list[Motion]) -> Iterator[str]:
    if [row.step for row in rows] != list(STEPS[: len(rows)]):
        yield f"the journal holds {[row.step for row in rows]}"
    for row in rows:
        if row.result is None:
            yield f"{row.step} was begun and never ended in the journal"
        elif row is not rows[-1] and not row.result["reached"]:
            yield f"{row.step} failed in the journal, and yet {rows[-1].step} was sent"
    if failure is None or not failure.evidence.get("phase"):
        return
    last = rows[-1].result or {}
    if (rows[-1].step, last.get("reached"), last.get("code")) != (failure.evidence["phase"], False, failure.code):
        yield f"the last row says {rows[-1].step}, {last.get('code')}: {last.get('message')}"
    if not np.isfinite(last.get("state", {}).get("positions", [np.nan])).all():
        yield "the last row does not say where the arm was"


def _wrong_motions(rows: list[Motion], motions: list[dict[str, Any]], watch: Watch) -> Iterator[str]:
    """Every step at most once: no more motions than steps that were begun, each where and as it was begun."""
    for steps, kinds in ((ARM_STEPS, ("servo", "speed", "movej", "movel")), (FINGER_STEPS, ("gripper",))):
        begun = [row for row in rows if row.step in steps]
        seen = [motion for motion in motions if motion["kind"] in kinds]
        if len(seen) > len(begun):
            yield f"{len(seen)} motions of {kinds} were seen, {len(begun)} were begun: {seen}"
    targets = [motion["target"][0] for motion in motions if motion["kind"] == "gripper"]
    if not np.allclose(targets, [OPENING_M, 0.0][: len(targets)], atol=SAME_M):
        yield f"the fingers were sent to {targets}"
    if watch.turned_back_rad() > SAME_RAD:
        yield f"the arm went back by {watch.turned_back_rad():.4f} rad"


def _next_command(bench: Bench, fault: Fault) -> tuple[str | None, list[str], float | None, list[str]]:
    """Refused until a person has cleared the fault; then a small motion and a grip do as told. Returns what
    `make_ready` refused with, what it mended, the motion's error, and what was wrong."""
    arm, refused, wrong = bench.arm, None, list[str]()
    if fault.refusal is not None:
        try:
            arm.make_ready()
            wrong.append(f"make_ready found nothing wrong, {fault.refusal} was expected")
        except StageFailure as failure:
            refused = failure.code
            if refused != fault.refusal or not failure.evidence.get("steps"):
                wrong.append(f"make_ready said {refused} {failure.evidence}, {fault.refusal} with steps was expected")
    if fault.lasts:
        bench.clear()
    try:
        mended = arm.make_ready()
        bench.admin.object(None)
        q = arm.read().positions
        goal = q + np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.08])
        results = [arm.follow(joint_motion(np.stack([q, goal]), bench.limits), "next"), arm.grip(0.0, "next grip")]
    except StageFailure as failure:
        return refused, [], None, [*wrong, f"the next command failed: {failure.code}: {failure.message}"]
    state = bench.admin.state()
    error_rad = float(np.abs(np.array(state["q"]) - goal).max())
    if not all(result.reached for result in results) or error_rad > 0.02 or state["gripper"]["width_m"] > SAME_M:
        said = [(result.code, result.message) for result in results]
        wrong.append(f"the next command ended {error_rad:.3f} rad off: {said}")
    return refused, mended, round(error_rad, 5), wrong


# ---- the table ------------------------------------------------------------------------------------------------------
