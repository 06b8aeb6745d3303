"""Small ways in which the arm once moved unchecked, unwatched or unasked; nothing may bring them back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from affordagent.agent.stopping import StopSignals
from affordagent.core.errors import StageFailure
from affordagent.graphs.moving import PICTURE_WITHIN_S, check_sight
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.interface import READY_Q
from affordagent.robot.motion_rules import START_TOLERANCE_RAD
from affordagent.robot.ur5.state import AT_REST_RAD_S, UrState
from affordagent.robot.ur5.stream import BLEND_S, PERIOD_S, Stream
from affordagent.robot.ur5.worker import PARENT_SILENT_S

WELL = UrState(
    q=READY_Q, qd=np.zeros(6), tcp_pose=np.zeros(6), tcp_force=np.zeros(6), robot_mode=7, safety_bits=1,
    runtime_state=2, speed_scaling=1.0, has_control=True, stamp_s=100.0, seen_s=0.0, beat_s=0.0,
)  # fmt: skip
MOVING_RAD_S, REST_WITHIN_S, WAIT_S = 0.1, 1.5, 60.0
CLIENT = """
import sys
import numpy as np
from affordagent.core.types import JointTrajectory
from affordagent.robot.gripper import NoGripper
from affordagent.robot.interface import READY_Q
from affordagent.robot.ur5.arm import UrArm
from affordagent.robot.ur5.cell import T_FLANGE_TCP
from affordagent.robot.ur5.config import Ur5Config

times_s = np.linspace(0, 20, 200)
positions = READY_Q + np.outer((1 - np.cos(np.pi * times_s / 20)) / 2, [2.5, 0, 0, 0, 0, 0])
with UrArm(sys.argv[1], Ur5Config(), NoGripper(), T_FLANGE_TCP) as arm:
    arm.make_ready()
    print(arm.follow(JointTrajectory(positions, times_s), "long").code, flush=True)
"""


def set_points(stream: Stream, state: UrState, count: int) -> np.ndarray:
    return np.array([stream.step(replace(state, stamp_s=state.stamp_s + k * PERIOD_S)) for k in range(count)])


def test_a_short_motion_does_not_jump_to_its_start() -> None:
    """Whoever starts beside the first point gets there in BLEND_S, even when the motion is over sooner."""
    start = replace(WELL, q=READY_Q + 0.98 * START_TOLERANCE_RAD)
    sent = set_points(Stream(np.array([0.0, 0.008, 0.016]), np.stack([READY_Q] * 3), start), start, 100)
    speeds = np.abs(np.diff(sent, axis=0)) / PERIOD_S
    assert speeds.max() <= 1.5 * START_TOLERANCE_RAD / BLEND_S + 1e-9
    np.testing.assert_allclose(sent[-1], READY_Q, atol=1e-9)


def test_a_slider_that_is_no_number_moves_nothing() -> None:
    start = replace(WELL, speed_scaling=np.nan)
    sent = set_points(Stream(np.array([0.0, 1.0]), np.stack([READY_Q, READY_Q + 1.0]), start), start, 5)
    np.testing.assert_array_equal(sent, np.stack([READY_Q] * 5))


def test_the_arm_stops_when_the_program_that_commands_it_stands_still(loopback: str) -> None:
    """Ctrl-Z: nobody could stop the arm any more, so it stops by itself; afterwards the command says why."""
    with start_emulator(loopback) as emulator:
        emulator.admin.place(READY_Q)
        client = subprocess.Popen([sys.executable, "-c", CLIENT, loopback], stdout=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + WAIT_S
            while np.abs(emulator.admin.state()["qd"]).max() < MOVING_RAD_S:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.kill(client.pid, signal.SIGSTOP)
            stopped_s = emulator.admin.state()["t"]
            while np.abs(emulator.admin.state()["qd"]).max() > AT_REST_RAD_S:
                assert emulator.admin.state()["t"] - stopped_s < PARENT_SILENT_S + REST_WITHIN_S
                time.sleep(0.02)
            os.kill(client.pid, signal.SIGCONT)
            assert client.communicate(timeout=WAIT_S)[0].strip() in ("execution.comms", "execution.program")
        finally:
            client.kill()
            client.communicate()


def test_a_closed_terminal_stops_the_arm_too() -> None:
    told: list[int] = []
    with StopSignals(lambda: told.append(1)), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGHUP)
    assert told == [1]


def test_under_nohup_the_run_goes_on() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(lambda: pytest.fail("stopped")) as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.fired
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_that_breaks_still_ends_the_run() -> None:
    def broken() -> None:
        raise RuntimeError("the arm is gone")

    with StopSignals(broken) as signals:
        with pytest.raises(RuntimeError):
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.fired  # so that no stage begins


def sight(age_s: float, camera_lost: bool = False, is_hardware: bool = True) -> Any:
    def look() -> None:
        if camera_lost:
            raise StageFailure("look", "camera.no_frame", "unplugged")

    frame = SimpleNamespace(stamp_s=time.time() - age_s)
    cell = SimpleNamespace(is_hardware=is_hardware, look=look)
    return SimpleNamespace(cell=cell, store=SimpleNamespace(get={"frame": frame}.__getitem__))


def test_no_motion_begins_without_a_camera_or_by_an_old_picture() -> None:
    """A person may take an hour to say yes."""
    check_sight(sight(10.0))
    check_sight(sight(9999.0, camera_lost=True, is_hardware=False))
    with pytest.raises(StageFailure, match="unplugged"):
        check_sight(sight(10.0, camera_lost=True))
    with pytest.raises(StageFailure, match="limit 300 s") as caught:
        check_sight(sight(PICTURE_WITHIN_S + 1.0))
    assert caught.value.code == "camera.stale"
