"""Each fault in each stage of a grasp (`fault_matrix.py` says how), and what no table shows: two faults at once, faults
while another is being mended, a stop at an awkward moment. The whole matrix:

    FAULT_MATRIX=docs/results/fault_matrix.jsonl pytest -m slow tests/test_fault_matrix.py -n 2
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from fault_bench import START_Q, Bench, Watch, run_grasp, small_plan, wait_until
from fault_matrix import FAULTS, SEED, STAGES, STANDS_WITHIN_S, Cell, run_cell

from affordagent.core.errors import StageFailure
from affordagent.core.journal import read_motions
from affordagent.core.types import JointTrajectory
from affordagent.robot.interface import MotionResult
from affordagent.tools.motion.trajectory import joint_motion

CELLS = [(fault, stage) for fault in FAULTS for stage in STAGES]
FIRST = [
    ("protective_stop", "to_pregrasp"),
    ("emergency_stop", "open"),
    ("safeguard_stop", "to_pregrasp"),
    ("violation", "idle"),
    ("power_off", "close"),
    ("local_control", "open"),
    ("program_death", "open"),
    ("link_drop", "to_pregrasp"),
    ("link_refuse", "open"),
    ("link_stall", "approach"),
    ("worker_killed", "approach"),
    ("worker_frozen", "open"),
    ("person_stops", "approach"),
    ("slow", "hold"),
    ("crawl", "to_pregrasp"),
    ("gripper_jam", "open"),
    ("gripper_drop", "idle"),
]


@pytest.fixture(scope="module")
def bench(loopback: str) -> Iterator[Bench]:
    with Bench(loopback) as bench:
        yield bench


@pytest.fixture(autouse=True)
def _new_arm_after_a_failure(bench: Bench, request: pytest.FixtureRequest) -> Iterator[None]:
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        bench.renew()


def record(cell: Cell) -> None:
    """To the file that the table of the docs is made from, when there is one."""
    file = os.environ.get("FAULT_MATRIX")
    if file:
        with Path(file).open("a") as lines:
            lines.write(json.dumps(asdict(cell)) + "\n")


def check(bench: Bench, fault: str, stage: str, folder: Path) -> None:
    cell = run_cell(bench, fault, stage, folder, SEED)
    record(cell)
    if cell.wrong:
        bench.renew()
    assert not cell.wrong, cell


@pytest.mark.parametrize(("fault", "stage"), FIRST)
def test_one_stage_of_each_fault(bench: Bench, fault: str, stage: str, tmp_path: Path) -> None:
    check(bench, fault, stage, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "stage"), CELLS)
def test_the_matrix(bench: Bench, fault: str, stage: str, tmp_path: Path) -> None:
    check(bench, fault, stage, tmp_path)


# ---- awkward moments ------------------------------------------------------------------------------------------------


def swing(bench: Bench, pan_rad: float = 0.3) -> JointTrajectory:
    """A motion of about a second from where the arm is."""
    q = np.array(bench.admin.state()["q"])
    return joint_motion(np.stack([q, q + np.array([pan_rad, 0, 0, 0, 0, 0])]), bench.limits)


@contextmanager
def moving(bench: Bench) -> Iterator[Future[MotionResult]]:
    """The arm on its way."""
    bench.set_up()
    with ThreadPoolExecutor(1) as pool:
        motion = pool.submit(bench.arm.follow, swing(bench), "swing")
        while np.abs(bench.admin.state()["qd"]).max() < 0.05:
            assert not motion.done(), motion.result()
            time.sleep(0.003)
        yield motion


def works_again(bench: Bench) -> None:
    """make_ready, then a motion that ends at its goal."""
    bench.arm.make_ready()
    trajectory = swing(bench, 0.05)
    result = bench.arm.follow(trajectory, "again")
    assert result.reached, result
    np.testing.assert_allclose(bench.admin.state()["q"], trajectory.positions[-1], atol=0.01)


def stands(bench: Bench, since_t: float, watch: Watch) -> None:
    watch.wait_until(since_t + STANDS_WITHIN_S + 0.1)
    assert watch.moved_until_s(since_t) <= STANDS_WITHIN_S


def stop_the_arm(bench: Bench) -> float:
    """A protective stop that everybody has heard of. Returns when it was."""
    since_t = bench.admin.fault("protective_stop")
    wait_until(bench.admin, since_t + 0.1)
    return since_t


def meanwhile(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "codes"),
    [
        ("protective_stop", "emergency_stop", {"execution.protective_stop", "execution.emergency_stop"}),
        ("program_death", "link_drop", {"execution.program", "execution.comms"}),
        ("link_stall", "power_off", {"execution.comms", "execution.power_off"}),
        ("worker_frozen", "person_stops", {"execution.comms", "execution.stopped"}),
        ("link_stall", "person_stops", {"execution.comms", "execution.stopped"}),
    ],
)
def test_two_faults_in_a_row(bench: Bench, first: str, second: str, codes: set[str]) -> None:
    with Watch(bench.host) as watch, moving(bench) as motion:
        since_t = bench.admin.state()["t"]
        FAULTS[first].inject(bench)
        wait_until(bench.admin, since_t + 0.03)
        FAULTS[second].inject(bench)
        result = motion.result(30)
        stands(bench, since_t, watch)
    assert not result.reached
    assert result.code in codes
    bench.clear()
    works_again(bench)


@pytest.mark.slow
def test_a_stop_is_heard_though_the_driver_is_frozen(bench: Bench) -> None:
    with moving(bench) as motion:
        os.kill(bench.worker_pid, signal.SIGSTOP)
        before_s, since_t = time.monotonic(), bench.admin.state()["t"]
        bench.arm.stop()
        assert time.monotonic() - before_s < 5.0
        wait_until(bench.admin, since_t + STANDS_WITHIN_S)
        assert np.abs(bench.admin.state()["qd"]).max() == 0
        assert not motion.result(30).reached
    works_again(bench)


def test_stop_pressed_again_and_again(bench: Bench) -> None:
    with Watch(bench.host) as watch, moving(bench) as motion:
        since_t = bench.admin.state()["t"]
        presses = [meanwhile(bench.arm.stop) for _ in range(4)]
        bench.arm.stop()
        assert motion.result(30).code == "execution.stopped"
        for press in presses:
            press.join(10)
            assert not press.is_alive()
        bench.arm.stop()  # at rest
        stands(bench, since_t, watch)
    assert bench.arm.follow(swing(bench), "not before make_ready").code == "execution.stopped"
    assert bench.arm.grip(0.05, "not before make_ready").code == "execution.stopped"
    works_again(bench)


@pytest.mark.slow
def test_a_stop_during_recovery_holds(bench: Bench) -> None:
    """Whoever presses stop while a protective stop is being unlocked wants the arm to stay."""
    bench.renew()
    bench.set_up()
    since_t = stop_the_arm(bench)
    with ThreadPoolExecutor(1) as pool:
        ready = pool.submit(bench.arm.make_ready)
        wait_until(bench.admin, since_t + 1.0)
        bench.arm.stop()
        refusal = ready.exception(30)
    assert refusal is None or isinstance(refusal, StageFailure)
    before = len(bench.admin.motions())
    assert bench.arm.follow(swing(bench), "stopped").code in ("execution.stopped", "execution.protective_stop")
    assert len(bench.admin.motions()) == before
    works_again(bench)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"), [("emergency_stop", "execution.emergency_stop"), ("link_refuse", "execution.comms")]
)
def test_a_fault_during_recovery_is_told(bench: Bench, fault: str, code: str) -> None:
    bench.renew()
    bench.set_up()
    since_t = stop_the_arm(bench)
    with ThreadPoolExecutor(1) as pool:
        ready = pool.submit(bench.arm.make_ready)
        wait_until(bench.admin, since_t + 1.0)
        bench.admin.fault(fault)
        with pytest.raises(StageFailure) as caught:
            ready.result(60)
    assert caught.value.code == code
    assert caught.value.evidence["steps"]
    bench.clear()
    works_again(bench)


@pytest.mark.slow
def test_protective_stops_are_unlocked_twice_and_no_more(bench: Bench) -> None:
    """Mended without a person, but not for ever, and never twice at one spot."""
    bench.renew()
    bench.set_up()
    for _ in range(2):
        stop_the_arm(bench)
        assert "unlocked a protective stop" in bench.arm.make_ready()
        assert bench.arm.follow(swing(bench, 0.1), "away").reached
    stop_the_arm(bench)
    with pytest.raises(StageFailure) as caught:
        bench.arm.make_ready()
    assert caught.value.code == "execution.protective_stop"
    assert bench.admin.state()["safety"] == "PROTECTIVE_STOP"
    bench.clear()
    works_again(bench)


@pytest.mark.slow
def test_a_closed_gate_does_not_set_the_arm_going(bench: Bench) -> None:
    """The controller takes a paused program up again by itself when the safeguard is reset; ours must not be there."""
    with moving(bench) as motion:
        since_t = bench.admin.fault("safeguard_stop")
        wait_until(bench.admin, since_t + 0.4)
        stood_at = bench.admin.state()["q"]
        bench.admin.fault("safeguard_stop", on=False)
        wait_until(bench.admin, since_t + 1.0)
        np.testing.assert_allclose(bench.admin.state()["q"], stood_at, atol=1e-6)
        assert motion.result(30).code == "execution.safeguard_stop"
    works_again(bench)


@pytest.mark.slow
def test_a_gate_that_is_open_for_a_blink(bench: Bench) -> None:
    """Shorter than anybody looks: the arm may go on, or say what it was; it does not jump."""
    with moving(bench) as motion:
        t = bench.admin.fault("safeguard_stop")
        wait_until(bench.admin, t + 0.02)
        bench.admin.fault("safeguard_stop", on=False)
        result = motion.result(30)
    assert result.reached or result.code in ("execution.safeguard_stop", "execution.program")
    works_again(bench)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["protective_stop", "link_drop", "person_stops", "program_death"])
@pytest.mark.parametrize("late_s", [-0.06, 0.0, 0.06, 0.12, 0.18, 0.24])
def test_a_fault_at_the_end_of_a_motion(bench: Bench, fault: str, late_s: float, tmp_path: Path) -> None:
    """Whether that motion or the next one fails is open; nothing is lost and nothing is done twice."""
    plan = small_plan(bench.limits)
    cell = run_cell(bench, fault, "to_pregrasp", tmp_path, SEED, moment_s=plan.to_pregrasp.duration_s + late_s)
    assert not cell.wrong, cell


@pytest.mark.slow
def test_a_link_that_breaks_again_and_again(bench: Bench) -> None:
    bench.set_up()
    for _ in range(4):
        bench.admin.fault("link_drop")
        wait_until(bench.admin, bench.admin.state()["t"] + 0.05)
        works_again(bench)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert len(children) <= 2, "the emulator and one driver process"


@pytest.mark.slow
def test_the_controller_is_switched_off_and_on(bench: Bench, tmp_path: Path) -> None:
    """The whole controller is gone in the middle of a motion and comes back."""
    bench.set_up()
    plan, began = small_plan(bench.limits), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(run_grasp, bench.arm, plan, tmp_path / "motions.sqlite", "to_pregrasp", began)
        assert began.wait(20)
        time.sleep(0.3)
        bench.restart_controller()
        failure = run.result(30)
    assert failure is not None
    assert failure.code == "execution.comms"
    rows = read_motions(tmp_path / "motions.sqlite")
    assert [row.step for row in rows] == ["open", "to_pregrasp"]
    assert rows[-1].result["code"] == "execution.comms"
    bench.admin.place(START_Q.tolist())
    works_again(bench)


@pytest.mark.slow
def test_the_run_folder_is_read_while_the_arm_moves(bench: Bench, tmp_path: Path) -> None:
    """Another process that reads the journal all the time neither stops the motion nor loses a row."""
    bench.set_up()
    file, began = tmp_path / "motions.sqlite", threading.Event()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(run_grasp, bench.arm, small_plan(bench.limits), file, "open", began)
        assert began.wait(20)
        while not run.done():
            read_motions(file)
        assert run.result(30) is None
    assert [row.result["reached"] for row in read_motions(file)] == [True] * 6
