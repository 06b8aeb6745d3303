"""The driver of a UR arm against the emulated controller: motions, stops, lost links, and what comes afterwards."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import JointTrajectory
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.emulator.process import Emulator, start_emulator
from affordagent.robot.gripper import DigitalGripper, NoGripper, RobotiqGripper
from affordagent.robot.interface import READY_Q, MotionResult
from affordagent.robot.ur5.arm import UrArm
from affordagent.robot.ur5.cell import T_FLANGE_TCP
from affordagent.robot.ur5.config import Ur5Config
from affordagent.robot.ur5.link import Link, WorkerLost
from affordagent.robot.ur5.state import Board

CONFIG = Ur5Config(watchdog_hz=5.0)  # patient with a loaded machine
PAN = np.array([1.0, 0, 0, 0, 0, 0])
STANDS_WITHIN_S = 0.5  # of controller time
AT_REST_RAD_S = 1e-3


def motion(by_rad: float, duration_s: float, start: np.ndarray = READY_Q) -> JointTrajectory:
    times_s = np.linspace(0, duration_s, 40)
    share = (1 - np.cos(np.pi * times_s / duration_s)) / 2
    return JointTrajectory(start + by_rad * share[:, None] * PAN, times_s)


class Bench:
    """One controller for all tests, and one arm that is opened again only where a test needs it closed."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._arm: UrArm | None = None

    def arm(self) -> UrArm:
        if self._arm is None:
            self._arm = UrArm(self.emulator.host, CONFIG, RobotiqGripper(self.emulator.host), T_FLANGE_TCP)
            self._arm.__enter__()
        return self._arm

    def close(self) -> None:
        if self._arm is not None:
            self._arm.__exit__()
        self._arm = None


@pytest.fixture(scope="module")
def bench(loopback: str) -> Iterator[Bench]:
    with start_emulator(loopback) as emulator:
        shared = Bench(emulator)
        yield shared
        shared.close()


@pytest.fixture
def emulator(bench: Bench) -> Emulator:
    return bench.emulator


@pytest.fixture
def admin(emulator: Emulator) -> EmulatorClient:
    """A controller with nothing wrong, its arm at READY_Q."""
    admin = emulator.admin
    for lasting in ("link_stall", "link_refuse", "gripper_drop", "slow", "local_control"):
        admin.fault(lasting, on=False)
    state = admin.state()
    if (state["safety"], state["mode"]) != ("NORMAL", "RUNNING"):
        admin.clear()  # ends the program, so that another one must be uploaded
    admin.object(None)
    admin.force([0, 0, 0])
    after(admin, 0.05)
    return admin


@pytest.fixture
def alone(bench: Bench, admin: EmulatorClient) -> EmulatorClient:
    """A controller that nobody is connected to."""
    bench.close()
    admin.place(READY_Q.tolist())
    return admin


@pytest.fixture
def arm(bench: Bench, admin: EmulatorClient) -> UrArm:
    arm = bench.arm()
    arm.make_ready()
    admin.place(READY_Q.tolist())
    after(admin, 0.03)
    return arm


def worker_pid(arm: UrArm) -> int:
    assert arm._link is not None
    return arm._link.pid


def after(admin: EmulatorClient, seconds: float) -> float:
    """Wait by the controller's clock; returns its time."""
    end = admin.state()["t"] + seconds
    while (t := admin.state()["t"]) < end:
        time.sleep(0.004)
    return float(t)


def stood_after_s(admin: EmulatorClient, since: float) -> float:
    """Controller time from `since` until the arm stands."""
    while True:
        state = admin.state()
        if np.abs(state["qd"]).max() < AT_REST_RAD_S:
            return float(state["t"]) - since
        assert state["t"] - since < 3, "the arm does not stop"
        time.sleep(0.002)


def interrupted(host: str, arm: UrArm, what: Callable[[EmulatorClient], object]) -> tuple[MotionResult, float]:
    """A motion of 1.5 s, and something that happens in the midst of it. Returns how it ended and when the arm stood."""
    stood: list[float] = []

    def strike() -> None:
        with EmulatorClient(host) as client:
            while np.abs(client.state()["qd"]).max() < 0.3:
                time.sleep(0.004)
            since = after(client, 0.1)
            what(client)
            stood.append(stood_after_s(client, since))

    thread = threading.Thread(target=strike)
    thread.start()
    result = arm.follow(motion(0.9, 1.5), "test")
    thread.join(10)
    return result, stood[0]


def assert_goes_on(arm: UrArm, admin: EmulatorClient) -> None:
    """The next command does what it is told, from where the arm is."""
    start = arm.read().positions
    np.testing.assert_allclose(start, admin.state()["q"], atol=1e-3)
    result = arm.follow(motion(-0.1, 0.5, start), "next")
    assert result.reached, result.message
    np.testing.assert_allclose(admin.state()["q"], start - 0.1 * PAN, atol=0.02)


# ---- motions --------------------------------------------------------------------------------------------------------


def move_and_grip(arm: UrArm, admin: EmulatorClient) -> None:
    moved = len(admin.motions())
    before = arm.read()
    result = arm.follow(motion(0.4, 1.0), "pan")
    assert result.reached, result.message
    assert result.max_error_rad < 0.02
    np.testing.assert_allclose(result.state.positions, READY_Q + 0.4 * PAN, atol=0.02)
    assert result.state.stamp_s > before.stamp_s + 1.0
    admin.object(0.03)
    assert arm.grip(0.06, "open").state.gripper_width_m == pytest.approx(0.06, abs=1e-3)
    closed = arm.grip(0.0, "close")
    assert closed.reached
    assert closed.state.holding
    assert closed.state.gripper_width_m == pytest.approx(0.03, abs=1e-3)
    assert arm.wait(0.1, "hold").state.stamp_s >= closed.state.stamp_s + 0.1
    seen = admin.motions()[moved:]
    assert [m["kind"] for m in seen] == ["servo", "gripper", "gripper"]
    np.testing.assert_allclose(seen[0]["start"], READY_Q, atol=1e-3)
    assert not admin.state()["warnings"]


def test_an_e_series_arm_moves_and_grips(arm, admin):
    assert arm.read().tcp_force_n.tolist() == [0, 0, 0]
    move_and_grip(arm, admin)


def test_a_cb3_arm_moves_and_grips(second_loopback):
    host = second_loopback
    config = Ur5Config(model="UR5", watchdog_hz=5.0)
    with start_emulator(host, model="UR5", version="3.15.4.0") as emulator:
        emulator.admin.place(READY_Q.tolist())
        with UrArm(host, config, RobotiqGripper(host), T_FLANGE_TCP) as arm:
            assert arm.make_ready() == []
            assert arm.read().tcp_force_n is None
            move_and_grip(arm, emulator.admin)
        state = emulator.admin.state()
    assert state["payload_kg"] == config.payload_kg
    assert state["runtime"] == "STOPPED", "our program is ended when we leave"


def test_the_arm_stays_on_its_path(arm, admin, emulator):
    """Two joints that turn by different laws: wherever the arm is seen, it is near some point of the trajectory."""
    times_s = np.linspace(0, 1.5, 60)
    turn = (1 - np.cos(np.pi * times_s / 1.5)) / 2
    positions = READY_Q + np.outer(turn, PAN) * 0.6 + np.outer(turn**2, [0, 0, 0, 0, 0, 0.6])
    seen, done = [], threading.Event()

    def look() -> None:
        with EmulatorClient(emulator.host) as client:
            while not done.wait(0.01):
                seen.append(client.state()["q"])

    thread = threading.Thread(target=look)
    thread.start()
    assert arm.follow(JointTrajectory(positions, times_s), "bend").reached
    done.set()
    thread.join()
    dense = np.stack([np.interp(np.linspace(0, 1.5, 1500), times_s, joint) for joint in positions.T], axis=1)
    off = [np.abs(dense - q).max(1).min() for q in seen]
    assert len(seen) > 30
    assert max(off) < 0.02


def test_a_slow_controller_makes_the_motion_slow(arm, admin):
    admin.fault("slow", factor=3.0)
    start_s = arm.read().stamp_s
    result = arm.follow(motion(0.3, 0.6), "slow")
    assert result.reached, result.message
    assert result.state.stamp_s - start_s > 3 * 0.6


def test_a_push_ends_the_motion(arm, admin, emulator):
    arm.tcp_force_n = 50.0
    result, stood_s = interrupted(emulator.host, arm, lambda client: client.force([0, 30, 60]))
    assert result.code == "execution.force"
    assert "67 N" in result.message
    assert stood_s < STANDS_WITHIN_S
    admin.force([0, 0, 0])
    arm.tcp_force_n = None
    arm.make_ready()
    assert_goes_on(arm, admin)


def test_nothing_is_sent_from_elsewhere(arm, admin):
    result = arm.follow(motion(0.3, 0.6, READY_Q + 0.06 * PAN), "far")
    assert result.code == "execution.start_mismatch"
    assert result.max_error_rad == pytest.approx(0.36, abs=0.01)
    assert admin.motions() == [] or admin.motions()[-1]["t1"] <= result.state.stamp_s - 0.1


MALFORMED = {
    "five joints": JointTrajectory(np.tile(READY_Q[:5], (3, 1)), np.arange(3.0)),
    "NaN": JointTrajectory(np.stack([READY_Q, READY_Q + math.nan]), np.arange(2.0)),
    "one point": JointTrajectory(READY_Q[None], np.zeros(1)),
    "times that stand": JointTrajectory(np.stack([READY_Q, READY_Q]), np.zeros(2)),
    "late begin": JointTrajectory(np.stack([READY_Q, READY_Q]), np.array([1.0, 2.0])),
    "endless": JointTrajectory(np.stack([READY_Q, READY_Q]), np.array([0.0, math.inf])),
    "other lengths": JointTrajectory(np.stack([READY_Q, READY_Q]), np.arange(3.0)),
}


def test_what_is_no_motion_is_refused_before_it_is_sent(arm, admin):
    before = len(admin.motions())
    for name, trajectory in MALFORMED.items():
        assert arm.follow(trajectory, name).code == "safety.malformed", name
    for width_m in (-0.01, math.nan, 0.2):
        result = arm.grip(width_m, "width")
        assert result.reached or result.code == "safety.malformed"
    assert arm.wait(math.nan, "forever").code == "safety.malformed"
    assert len([m for m in admin.motions()[before:] if m["kind"] != "gripper"]) == 0
    assert_goes_on(arm, admin)


# ---- stops ----------------------------------------------------------------------------------------------------------


def test_stop_from_another_thread_and_the_latch(arm, admin, emulator):
    took: list[float] = []

    def stop(_: EmulatorClient) -> None:
        begin_s = time.monotonic()
        arm.stop()
        took.append(time.monotonic() - begin_s)

    result, stood_s = interrupted(emulator.host, arm, stop)
    assert result.code == "execution.stopped"
    assert stood_s < STANDS_WITHIN_S
    assert admin.state()["threads"] == [], "a servo thread goes on in the controller"
    moved = len(admin.motions())
    for refused in (arm.follow(motion(0.2, 0.5), "a"), arm.grip(0.02, "b"), arm.wait(0.0, "c")):
        assert refused.code == "execution.stopped"
    assert len(admin.motions()) == moved
    arm.make_ready()
    assert_goes_on(arm, admin)


def test_stop_while_the_fingers_close(arm, admin):
    assert arm.grip(0.085, "open").reached
    threading.Timer(0.15, arm.stop).start()
    result = arm.grip(0.0, "close")
    assert result.code == "execution.stopped"
    after(admin, 0.2)
    width_m = admin.state()["gripper"]["width_m"]
    after(admin, 0.1)
    assert admin.state()["gripper"]["width_m"] == width_m > 0.01
    arm.make_ready()
    assert arm.grip(0.0, "close").state.gripper_width_m < 0.001


def test_stop_when_the_worker_does_not_obey(arm, admin, emulator):
    """The dashboard server ends the program."""

    def stop(_: EmulatorClient) -> None:
        os.kill(worker_pid(arm), signal.SIGSTOP)
        arm.stop()

    result, stood_s = interrupted(emulator.host, arm, stop)
    assert result.code == "execution.stopped"
    assert stood_s < STANDS_WITHIN_S
    assert admin.state()["runtime"] == "STOPPED"
    arm.make_ready()
    assert_goes_on(arm, admin)


def test_ctrl_c_stops_the_arm(arm, admin):
    threading.Timer(0.7, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        arm.follow(motion(1.2, 2.0), "long")
    assert np.abs(admin.state()["qd"]).max() < AT_REST_RAD_S
    arm.make_ready()
    assert_goes_on(arm, admin)


PARENT = """
import sys
import numpy as np
from affordagent.core.types import JointTrajectory
from affordagent.robot.gripper import NoGripper
from affordagent.robot.interface import READY_Q
from affordagent.robot.ur5.arm import UrArm
from affordagent.robot.ur5.cell import T_FLANGE_TCP
from affordagent.robot.ur5.config import Ur5Config
from affordagent.robot.ur5.link import Link, WorkerLost
from affordagent.robot.ur5.state import Board

with UrArm(sys.argv[1], Ur5Config(watchdog_hz=5.0), NoGripper(), T_FLANGE_TCP) as arm:
    print(arm._link.pid, flush=True)
    arm.follow(JointTrajectory(np.stack([READY_Q, READY_Q + [3.0, 0, 0, 0, 0, 0]]), np.array([0.0, 6.0])), "long")
"""


def test_the_arm_does_not_outlive_its_program(alone, emulator):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, emulator.host], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        while np.abs(alone.state()["qd"]).max() < 0.3:
            time.sleep(0.01)
        since = after(alone, 0.3)
    finally:
        parent.kill()
    assert stood_after_s(alone, since) < STANDS_WITHIN_S
    parent.wait(10)
    end_s = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end_s:
        time.sleep(0.02)
    assert not Path(f"/proc/{worker}").exists(), "the worker goes on"
    assert alone.state()["runtime"] == "STOPPED"
    assert len([m for m in alone.motions() if m["end"][0] > READY_Q[0] + 2.9]) == 0


# ---- what goes wrong ------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, Callable[[EmulatorClient, UrArm], object], str]] = {
    "protective stop": ("execution.protective_stop", lambda c, _: c.fault("protective_stop"), "uploaded"),
    "program death": ("execution.program", lambda c, _: c.fault("program_death"), "uploaded"),
    "link drop": ("execution.comms", lambda c, _: c.fault("link_drop"), "opened"),
    "worker killed": ("execution.comms", lambda _, arm: os.kill(worker_pid(arm), signal.SIGKILL), "opened"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_stops_the_arm_and_is_mended(arm, admin, emulator, name):
    code, what, mended = FAULTS[name]
    result, stood_s = interrupted(emulator.host, arm, lambda client: what(client, arm))
    assert result.code == code, result.message
    assert stood_s < STANDS_WITHIN_S
    stood_at = admin.state()["q"]
    np.testing.assert_allclose(result.state.positions, stood_at, atol=0.3)
    admin.clear()
    after(admin, 0.05)
    assert mended in " ".join(arm.make_ready())
    after(admin, 0.3)
    assert admin.state()["q"] == stood_at, "the new program goes on to where the old one was going"
    assert_goes_on(arm, admin)


def test_a_safeguard_that_opens_for_a_moment(arm, admin, emulator):
    """It pauses the program, and closing it lets the program go on: ours must not."""

    def blink(client: EmulatorClient) -> None:
        client.fault("safeguard_stop")
        after(client, 0.03)
        client.fault("safeguard_stop", on=False)

    result, _ = interrupted(emulator.host, arm, blink)
    assert result.code == "execution.safeguard_stop"
    after(admin, 0.3)
    stood_at = admin.state()["q"]
    after(admin, 0.3)
    assert admin.state()["q"] == stood_at
    assert admin.state()["runtime"] == "STOPPED"
    np.testing.assert_allclose(stood_at, result.state.positions, atol=0.1)
    arm.make_ready()
    assert_goes_on(arm, admin)


def test_a_stalled_link(arm, admin, emulator):
    """Nothing comes through on any port: the controller's watchdog stops the arm; later all is well again."""
    result, stood_s = interrupted(emulator.host, arm, lambda client: client.fault("link_stall"))
    assert result.code == "execution.comms"
    assert stood_s < STANDS_WITHIN_S
    with pytest.raises(StageFailure) as caught:
        arm.read()
    assert caught.value.code == "execution.comms"
    with pytest.raises(StageFailure) as caught:
        arm.make_ready()
    assert caught.value.code == "execution.comms"
    assert caught.value.evidence["steps"]
    admin.fault("link_stall", on=False)
    arm.make_ready()
    assert_goes_on(arm, admin)


def test_a_person_takes_over(arm, admin, emulator):
    result, stood_s = interrupted(emulator.host, arm, lambda client: client.fault("local_control"))
    assert result.code == "execution.local_control"
    assert stood_s < STANDS_WITHIN_S
    with pytest.raises(StageFailure) as caught:
        arm.make_ready()
    assert caught.value.code == "execution.local_control"
    with pytest.raises(StageFailure) as caught, UrArm(emulator.host, CONFIG, NoGripper(), T_FLANGE_TCP):
        pass
    assert caught.value.code == "execution.local_control"
    admin.fault("local_control", on=False)
    arm.make_ready()
    assert_goes_on(arm, admin)


def test_an_old_state_is_not_acted_on(arm, admin):
    pid = worker_pid(arm)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.6)
    before = len(admin.motions())
    with pytest.raises(StageFailure) as caught:
        arm.read()
    assert caught.value.code == "execution.comms"
    for refused in (arm.follow(motion(0.1, 0.5), "a"), arm.grip(0.02, "b"), arm.wait(0.1, "c")):
        assert refused.code == "execution.comms"
        assert refused.state.age_s > CONFIG.stale_after_s
    assert len(admin.motions()) == before
    arm.make_ready()
    assert worker_pid(arm) != pid
    assert_goes_on(arm, admin)


def test_a_gripper_that_is_gone(arm, admin):
    admin.fault("gripper_drop")
    for result in (arm.grip(0.02, "grip"), arm.wait(0.05, "wait"), arm.follow(motion(0.1, 0.5), "move")):
        assert result.code == "execution.gripper", result.message
    admin.fault("gripper_drop", on=False)
    arm.make_ready()
    result = arm.grip(0.02, "grip")
    assert result.reached, result.message
    assert_goes_on(arm, admin)


# ---- connecting -----------------------------------------------------------------------------------------------------


def test_another_program_is_left_alone(alone, emulator):
    with socket.create_connection((emulator.host, 30002)) as script:
        script.sendall(b"def other():\n  sleep(20)\nend\n")
        after(alone, 0.3)
        assert alone.state()["program"] == "other"
        with pytest.raises(StageFailure) as caught, UrArm(emulator.host, CONFIG, NoGripper(), T_FLANGE_TCP):
            pass
    assert caught.value.code == "execution.program"
    assert alone.state()["program"] == "other"
    alone.clear()


@pytest.mark.parametrize("model", ["UR10e", "UR5"])
def test_another_arm_than_the_settings_say(alone, emulator, model):
    """The UR10 by its name, the UR5 (whose shoulder is 73 mm lower) by where the controller says its tcp is."""
    config = Ur5Config(model=model)
    with pytest.raises(StageFailure) as caught, UrArm(emulator.host, config, NoGripper(), T_FLANGE_TCP):
        pass
    assert caught.value.code == "calibration.tcp"
    assert model in caught.value.message


def test_nobody_there():
    with pytest.raises(StageFailure) as caught, UrArm("127.255.255.3", CONFIG, NoGripper(), T_FLANGE_TCP):
        pass
    assert caught.value.code == "execution.comms"
    assert "127.255.255.3" in caught.value.message


@pytest.mark.slow
def test_a_controller_that_says_nothing(second_loopback):
    """It accepts the connection and then hangs, as does the client: the kernel ends the worker."""
    host = second_loopback
    with closing(Board()) as board, socket.create_server((host, 30004)), pytest.raises(WorkerLost, match="hung"):
        Link(host, board, outputs=False)


def test_an_arm_that_is_off_is_connected_but_not_ready(alone, emulator):
    alone.fault("power_off")
    with UrArm(emulator.host, CONFIG, RobotiqGripper(emulator.host), T_FLANGE_TCP) as arm:
        with pytest.raises(StageFailure) as caught:
            arm.make_ready()
        assert caught.value.code == "execution.power_off"
        assert arm.follow(motion(0.1, 0.5), "off").code == "execution.power_off"
        alone.clear()
        after(alone, 0.1)
        arm.make_ready()
        assert_goes_on(arm, alone)


def test_a_gripper_on_a_digital_output(alone, emulator):
    config = Ur5Config(gripper="digital:3", watchdog_hz=5.0)
    gripper = DigitalGripper(3, lambda pin, on: arm.set_output(pin, on), settle_s=0.1)
    with UrArm(emulator.host, config, gripper, T_FLANGE_TCP) as arm:
        assert arm.grip(0.0, "close").reached
        assert alone.state()["digital_out"] & 1 << 3
        assert arm.grip(0.05, "open").reached
        assert not alone.state()["digital_out"] & 1 << 3
        assert_goes_on(arm, alone)


def test_the_client_is_not_installed(alone, emulator, tmp_path, monkeypatch):
    (tmp_path / "rtde_receive.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        pytest.raises(AffordAgentError, match=r"pip install .*affordagent\[ur5\]"),
        UrArm(emulator.host, CONFIG, NoGripper(), T_FLANGE_TCP),
    ):
        pass


def test_only_the_worker_holds_the_client_and_it_imports_little():
    """It is started anew after each lost link."""
    code = "import sys, affordagent.robot.ur5.{0}; print(*sys.modules)"
    loaded = [
        set(subprocess.check_output([sys.executable, "-c", code.format(name)], text=True, timeout=30).split())
        for name in ("worker", "arm")
    ]
    assert not loaded[0] & {"torch", "mujoco", "scipy", "pydantic"}
    assert not (loaded[0] | loaded[1]) & {"rtde_control", "rtde_receive", "rtde_io"}
