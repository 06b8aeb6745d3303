"""Every fault in every stage of a grasp, what came of it, and what must hold (`fault_bench.py` says on what).

python tests/fault_matrix.py docs/results/fault_matrix.jsonl > docs/fault_matrix.md
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fault_bench import (
    AT_REST_RAD_S,
    OPENING_M,
    SAME_M,
    Bench,
    Watch,
    run_grasp,
    small_plan,
    stage_s,
    wait_until,
)

from affordagent.core.errors import StageFailure
from affordagent.core.journal import Motion, read_motions
from affordagent.core.types import GraspPlan
from affordagent.tools.motion.trajectory import joint_motion

STEPS = ("open", "to_pregrasp", "approach", "close", "lift", "hold")
STAGES = ("idle", *STEPS)
ARM_STEPS, FINGER_STEPS = ("to_pregrasp", "approach", "lift"), ("open", "close")

STANDS_WITHIN_S = 0.5  # of controller time, after the fault
SAME_RAD = 2e-3
TRIES = 3
SEED = 0
RUN_S = 40.0  # wall time in which a run must have ended, however slow the machine
SLOW, CRAWL = 2.0, 60.0  # times slower than told


@dataclass(frozen=True)
class Fault:
    """inject: do it. code: of the failure. hits: steps that cannot go on with it; the run ends in the first of them,
    and succeeds where none is left. stops_arm: it ends any motion. late: while the arm rests it is noticed when the
    last state is too old, half a second later, so perhaps only in the next step. lasts: a person has to clear it.
    refusal: the code with which `make_ready` refuses until then."""

    inject: Callable[[Bench], None]
    code: str | None
    hits: tuple[str, ...] = STEPS
    stops_arm: bool = True
    late: bool = False
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
    "link_drop": Fault(_told("link_drop"), "execution.comms", late=True),
    "link_refuse": Fault(_told("link_refuse"), "execution.comms", late=True, lasts=True),
    "link_stall": Fault(_told("link_stall"), "execution.comms", late=True, lasts=True),
    "worker_killed": Fault(_signalled(signal.SIGKILL), "execution.comms"),
    "worker_frozen": Fault(_signalled(signal.SIGSTOP), "execution.comms", late=True),
    "person_stops": Fault(lambda bench: bench.arm.stop(), "execution.stopped"),
    "slow": Fault(_told("slow", factor=SLOW), None, hits=(), stops_arm=False, lasts=True),
    "crawl": Fault(_told("slow", factor=CRAWL), "execution.timeout", hits=ARM_STEPS, stops_arm=False, lasts=True),
    "gripper_jam": Fault(_told("gripper_jam"), "execution.gripper", hits=FINGER_STEPS, stops_arm=False, lasts=True),
    "gripper_drop": Fault(_told("gripper_drop"), "execution.gripper", stops_arm=False, lasts=True),
}


@dataclass(frozen=True)
class Cell:
    """What was seen. moment_s: of the fault, after the stage's first motion. under_way: steps that were open just
    before and just after the fault. step: in which the run failed, "" = before one had begun. stood_after_s: see
    `Watch`, None where the fault does not stop the arm. refused: what `make_ready` said before the fault was cleared.
    tries: more than one where the machine was too busy for the fault to come within its stage. wrong: what should not
    have been, empty = passed."""

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
    tries: int
    next_error_rad: float | None
    wall_s: float
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Encounter:
    """A grasp that met a fault: when that was, which steps were open just before and just after it, how the grasp
    ended (None = well), what was seen, the journal's rows, and the motions that the controller logged."""

    struck_t: float
    under_way: tuple[str, str]
    failure: StageFailure | None
    watch: Watch
    rows: list[Motion]
    motions: list[dict[str, Any]]


def run_cell(bench: Bench, name: str, stage: str, folder: Path, seed: int, moment_s: float | None = None) -> Cell:
    """One fault at a random moment of one stage, or at a given one, what came of it, and what comes after it.

    Raises:
        TimeoutError: the run does not end.
        Missed: the machine is too busy, in each of several tries.
    """
    begin_s = time.monotonic()
    fault, plan, tries, anywhere = FAULTS[name], small_plan(bench.limits), 1, moment_s is not None
    if moment_s is None:
        rng = np.random.default_rng([seed, list(FAULTS).index(name), STAGES.index(stage)])
        moment_s = float(rng.uniform(0.1, 0.7)) * stage_s(plan, stage)
    while True:
        try:
            seen = _meet(bench, fault, plan, stage, folder / f"{name}-{stage}-{tries}.sqlite", moment_s, anywhere)
            break
        except Missed:
            bench.renew()
            if tries == TRIES:
                raise
            tries += 1
    wrong = [
        *_wrong_stop(fault, name, stage, seen),
        *_wrong_failure(fault, stage, seen, anywhere),
        *_wrong_journal(seen),
        *_wrong_motions(seen),
    ]
    refused, mended, error_rad, complaints = _next_command(bench, fault)
    return Cell(
        fault=name,
        stage=stage,
        moment_s=round(moment_s, 4),
        under_way=seen.under_way,
        code=None if seen.failure is None else seen.failure.code,
        step=None if seen.failure is None else _failing_step(seen.failure, seen.rows),
        message="" if seen.failure is None else seen.failure.message,
        stood_after_s=round(seen.watch.stood_after_s(seen.struck_t), 3) if fault.stops_arm else None,
        motions=len(seen.motions),
        refused=refused,
        mended=mended,
        tries=tries,
        next_error_rad=error_rad,
        wall_s=round(time.monotonic() - begin_s, 2),
        wrong=wrong + complaints,
    )


class Missed(Exception):
    """The fault could not come in its stage: that had ended, or something had failed before."""


def _meet(
    bench: Bench, fault: Fault, plan: GraspPlan, stage: str, file: Path, moment_s: float, anywhere: bool
) -> Encounter:
    """anywhere: the fault may also come after its stage."""
    where = None if anywhere else _step_of(stage)
    bench.set_up()
    motions_before, began = len(bench.admin.motions()), threading.Event()
    with Watch(bench.host) as watch, ThreadPoolExecutor(1) as pool:
        if stage == "idle":
            struck_t, under_way = _strike(bench, fault, file, moment_s, where)
        run = pool.submit(run_grasp, bench.arm, plan, file, stage, began)
        if stage != "idle":
            _wait_for_motion(bench, stage, began, run)
            struck_t, under_way = _strike(bench, fault, file, moment_s, where)
        failure = run.result(RUN_S)
        watch.wait_until(max(struck_t + STANDS_WITHIN_S, bench.admin.state()["t"]) + 0.1)
    return Encounter(struck_t, under_way, failure, watch, read_motions(file), bench.admin.motions()[motions_before:])


def _wait_for_motion(bench: Bench, stage: str, began: threading.Event, run: Future[StageFailure | None]) -> None:
    """Until `stage` has begun and something moves in it, unless it is one of rest; or the run has ended."""
    while not began.wait(0.1) and not run.done():
        pass
    width_m = bench.admin.state()["gripper"]["width_m"]
    while not run.done():
        state = bench.admin.state()
        arm_moves = np.abs(state["qd"]).max() > AT_REST_RAD_S
        fingers_move = abs(state["gripper"]["width_m"] - width_m) > SAME_M
        if (stage not in ARM_STEPS or arm_moves) and (stage not in FINGER_STEPS or fingers_move):
            return
        time.sleep(0.003)


def _strike(bench: Bench, fault: Fault, file: Path, after_s: float, where: str | None) -> tuple[float, tuple[str, str]]:
    """Let the fault happen `after_s` from now, by the controller's clock. Returns when, and which step was under way
    just before and just after it.

    Raises:
        Missed: that step was not `where`, or our program had ended before.
    """
    wait_until(bench.admin, bench.admin.state()["t"] + after_s)
    before, state = _under_way(file), bench.admin.state()
    if state["runtime"] != "PLAYING" or where not in (None, before):
        raise Missed(f"under way: {before or 'nothing'}, program {state['runtime']}; {where} was wanted")
    fault.inject(bench)
    return state["t"], (before, _under_way(file))


def _under_way(file: Path) -> str:
    rows = read_motions(file)
    return rows[-1].step if rows and rows[-1].ended is None else ""


# ---- what must hold -------------------------------------------------------------------------------------------------


def _wrong_stop(fault: Fault, name: str, stage: str, seen: Encounter) -> Iterator[str]:
    moved_s, last = seen.watch.moved_until_s(seen.struck_t), seen.watch.samples[-1]
    if fault.stops_arm and moved_s > STANDS_WITHIN_S:
        yield f"the arm still moved {moved_s:.3f} s after the fault"
    after = [sample for sample in seen.watch.samples if sample.t > seen.struck_t + STANDS_WITHIN_S]
    if fault.stops_arm and np.ptp([sample.q for sample in after], axis=0).max() > SAME_RAD:
        yield "the arm was moved after it stood"
    if last.speed_rad_s > AT_REST_RAD_S:
        yield f"at the end the arm moves at {last.speed_rad_s:.3f} rad/s"
    fingers_s = seen.watch.fingers_stood_after_s(seen.struck_t)
    if name == "person_stops" and stage in FINGER_STEPS and fingers_s > STANDS_WITHIN_S:
        yield f"a person's stop left the fingers moving for {fingers_s:.3f} s"


def _wrong_failure(fault: Fault, stage: str, seen: Encounter, anywhere: bool) -> Iterator[str]:
    under_way, failure = seen.under_way, seen.failure
    met = {stage, *(step or _next(stage) for step in under_way)}  # between two steps it meets the second
    if fault.late or anywhere:
        met |= {_next(step) for step in met}
    first = {_first_hit(fault, step) for step in met}
    if failure is None:
        if None not in first:
            yield f"the run succeeded, {fault.code} was expected"
        return
    step = _failing_step(failure, seen.rows)
    if (failure.stage, failure.code) != ("execute", fault.code):
        yield f"the failure is {failure.stage}, {failure.code}: {failure.message}; {fault.code} was expected"
    if step and step not in first:
        yield f"the run failed in {step}, one of {sorted(map(str, first))} was expected"
    if len(failure.message) < 20:
        yield f"the message says nothing: {failure.message!r}"


def _step_of(stage: str) -> str:
    return "" if stage == "idle" else stage


def _next(stage: str) -> str:
    """The step after a stage; the last has none after it."""
    following = STAGES.index(stage) + 1
    return STAGES[min(following, len(STAGES) - 1)]


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


def _wrong_journal(seen: Encounter) -> Iterator[str]:
    failure, rows = seen.failure, seen.rows
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


def _wrong_motions(seen: Encounter) -> Iterator[str]:
    """Every step at most once: no more motions than steps that were begun, each where and as it was begun."""
    for steps, kinds in ((ARM_STEPS, ("servo", "speed", "movej", "movel")), (FINGER_STEPS, ("gripper",))):
        begun = [row for row in seen.rows if row.step in steps]
        made = [motion for motion in seen.motions if motion["kind"] in kinds]
        if len(made) > len(begun):
            yield f"{len(made)} motions of {kinds} were seen, {len(begun)} were begun: {made}"
    targets = [motion["target"][0] for motion in seen.motions if motion["kind"] == "gripper"]
    if not np.allclose(targets, [OPENING_M, 0.0][: len(targets)], atol=SAME_M):
        yield f"the fingers were sent to {targets}"
    if seen.watch.turned_back_rad() > SAME_RAD:
        yield f"the arm went back by {seen.watch.turned_back_rad():.4f} rad"


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
    if not wrong:
        bench.set_right()
    return refused, mended, round(error_rad, 5), wrong


# ---- the table ------------------------------------------------------------------------------------------------------

_HEAD = """# The fault matrix

Each fault in each stage of a grasp. The whole chain is real but for the arm: `tools.execution.execute` with its
journal, the safety layer, the driver with `ur_rtde` in its own process, the gripper, against the
[emulated controller](emulator.md) in another process. The fault comes at a random moment of the stage (seed {seed}).
What happened is judged from outside, by the controller's own state, clock and log of motions. In every cell:

- the arm stands within {stands} s of controller time, where the fault ends the motion;
- the run ends with the right code, in the step that the fault met, or that cannot go on with it;
- the journal opens, and its last row says what was begun and how it failed;
- no step was sent twice: the controller saw no more motions than were begun, and the arm never went back;
- once the fault is cleared, as a person at the pendant would, `make_ready` and the next command work. Before that,
  `make_ready` refuses and says what to do, where the cause is one that only a person may end.

{passed} of {count} cells passed{failed}. The latest standstill: {worst:.2f} s after its fault.

Run it again: `FAULT_MATRIX=cells.jsonl pytest -m slow tests/test_fault_matrix.py -n 2`, then
`python tests/fault_matrix.py cells.jsonl > docs/fault_matrix.md`. The raw cells of this table:
[fault_matrix.jsonl](results/fault_matrix.jsonl).

Seconds from the fault to when the arm was first seen standing, by samples about 0.01 s apart, more on a busy machine;
0 = it was at rest. A step's name = the run went on and ended there. "goes on" = the run succeeded.
"""


def table(cells: list[Cell]) -> str:
    """The page of the docs."""
    stood = [cell.stood_after_s for cell in cells if cell.stood_after_s is not None]
    passed = [cell for cell in cells if not cell.wrong]
    failed = [f"{cell.fault} in {cell.stage}" for cell in cells if cell.wrong]
    facts = {"seed": SEED, "stands": STANDS_WITHIN_S, "count": len(cells), "passed": len(passed), "worst": max(stood)}
    lines = [_HEAD.format(failed=f" (not: {', '.join(failed)})" if failed else "", **facts)]
    lines.append("| fault | code | " + " | ".join(STAGES) + " | then |")
    lines.append("|---|---|" + "---|" * (len(STAGES) + 1))
    for name, fault in FAULTS.items():
        row = {cell.stage: cell for cell in cells if cell.fault == name}
        entries = [_entry(row[stage]) if stage in row else "" for stage in STAGES]
        then = "a person clears it" if fault.lasts else "mends itself"
        lines.append(f"| {_NAMES[name]} | {f'`{fault.code}`' if fault.code else ''} | {' | '.join(entries)} | {then} |")
    return "\n".join(lines) + "\n"


def _entry(cell: Cell) -> str:
    if cell.wrong:
        return "**failed**"
    if cell.code is None:
        return "goes on"
    if cell.stood_after_s is None or cell.step not in ("", _step_of(cell.stage)) and cell.stage != "idle":
        return cell.step or "before `open`"
    return f"{cell.stood_after_s:.2f}" if cell.stood_after_s else "0"


_NAMES = {
    "protective_stop": "protective stop",
    "emergency_stop": "emergency stop",
    "safeguard_stop": "safeguard stop",
    "violation": "safety violation",
    "power_off": "power off",
    "local_control": "a person takes local control",
    "program_death": "the control program ends",
    "link_drop": "RTDE connections close",
    "link_refuse": "RTDE closes and refuses",
    "link_stall": "nothing comes through",
    "worker_killed": "driver process killed (-9)",
    "worker_frozen": "driver process frozen (SIGSTOP)",
    "person_stops": "stop, from another thread",
    "slow": f"controller {SLOW:.0f} times slower",
    "crawl": f"controller {CRAWL:.0f} times slower",
    "gripper_jam": "gripper jams",
    "gripper_drop": "gripper's socket closes and refuses",
}


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines()
    print(table([Cell(**json.loads(line)) for line in lines]), end="")
