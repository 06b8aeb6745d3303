"""The set-points of a motion and the memory the worker speaks through, without a controller."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affordagent.core.errors import StageFailure
from affordagent.robot.interface import READY_Q
from affordagent.robot.motion_rules import START_TOLERANCE_RAD
from affordagent.robot.ur5.dashboard import Dashboard
from affordagent.robot.ur5.state import EMERGENCY, FAULT, PROTECTIVE, SAFEGUARD, Board, UrState, fault_of
from affordagent.robot.ur5.stream import BLEND_S, PERIOD_S, SETTLE_S, Stream

WELL = UrState(
    q=READY_Q,
    qd=np.zeros(6),
    tcp_pose=np.zeros(6),
    tcp_force=np.zeros(6),
    robot_mode=7,
    safety_bits=1,
    runtime_state=2,
    speed_scaling=1.0,
    has_control=True,
    stamp_s=100.0,
    seen_s=0.0,
    beat_s=0.0,
)
SPEED_RAD_S = 1.0
TIMES_S = np.array([0.0, 1.0])
POSITIONS = np.stack([READY_Q, READY_Q + [SPEED_RAD_S, 0, 0, 0, 0, 0]])


def drive(stream: Stream, state: UrState, plant: Callable[[UrState, np.ndarray], UrState], most_s: float = 20.0):
    """Step until the stream ends; returns its set-points, the last state and the ending."""
    sent = []
    end_s = state.stamp_s + most_s
    while state.stamp_s < end_s:
        sent.append(stream.step(state))
        state = plant(state, sent[-1])
        ending = stream.ending(state)
        if ending is not None or stream.arrived(state):
            return np.array(sent), state, ending
    raise AssertionError("it goes on for ever")


def lagging(state: UrState, target: np.ndarray, period_s: float = PERIOD_S) -> UrState:
    """An arm that follows with the look-ahead's lag of 0.1 s."""
    q = state.q + (target - state.q) * period_s / 0.1
    return replace(state, q=q, qd=(q - state.q) / period_s, stamp_s=state.stamp_s + period_s)


@given(
    offset=st.floats(-START_TOLERANCE_RAD, START_TOLERANCE_RAD),
    periods=st.lists(st.floats(0.004, 0.04), min_size=1, max_size=20),
    scaling=st.floats(0.2, 1.0),
)
@settings(max_examples=10)
def test_no_set_point_jumps(offset, periods, scaling):
    """Whatever the news' timing, the slider and the arm's distance from the first point."""
    start = replace(WELL, q=READY_Q + offset, speed_scaling=scaling)
    beat = itertools.cycle(periods)
    sent, state, ending = drive(
        Stream(TIMES_S, POSITIONS, start), start, lambda s, target: lagging(s, target, next(beat)), 100.0
    )
    assert ending is None
    np.testing.assert_allclose(state.q, POSITIONS[-1], atol=0.02)
    fastest = SPEED_RAD_S + 1.5 * START_TOLERANCE_RAD / BLEND_S
    assert np.abs(np.diff(sent, axis=0)).max() <= fastest * 2 * PERIOD_S * scaling + 1e-9
    np.testing.assert_allclose(sent[0], start.q, atol=1e-12)


def test_a_slider_makes_it_slow():
    ends = {}
    for scaling in (1.0, 0.25):
        start = replace(WELL, speed_scaling=scaling)
        _, state, ending = drive(Stream(TIMES_S, POSITIONS, start), start, lagging)
        assert ending is None
        ends[scaling] = state.stamp_s - start.stamp_s
    assert ends[0.25] > 4 * TIMES_S[-1]
    assert ends[1.0] < TIMES_S[-1] + 1.0


@pytest.mark.parametrize("scaling", [0.0, 0.02])
def test_a_slider_near_zero_is_a_timeout(scaling):
    start = replace(WELL, speed_scaling=scaling)
    _, state, ending = drive(Stream(TIMES_S, POSITIONS, start), start, lagging)
    assert ending is not None
    assert ending[0] == "execution.timeout"
    assert "slider" in ending[1]
    assert state.stamp_s - start.stamp_s < 4.0


def test_an_arm_that_is_held_is_noticed():
    """Held at 0.3 rad: noticed before the set-points are far past it."""

    def held(state: UrState, target: np.ndarray) -> UrState:
        return lagging(state, np.minimum(target, READY_Q + 0.3))

    sent, state, ending = drive(Stream(TIMES_S, POSITIONS, WELL), WELL, held)
    assert ending is not None
    assert ending[0] == "execution.tracking"
    assert "joint 1" in ending[1]
    assert sent[-1][0] - state.q[0] < 0.6


def test_an_arm_that_is_thrown_off_is_noticed_at_once():
    stream = Stream(TIMES_S, POSITIONS, WELL)
    stream.step(WELL)
    ending = stream.ending(replace(WELL, q=READY_Q - [0, 0, 0.06, 0, 0, 0]))
    assert ending is not None
    assert ending[0] == "execution.tracking"
    assert "joint 3" in ending[1]


def test_an_arm_that_ends_short_or_shakes():
    def short(state: UrState, target: np.ndarray) -> UrState:
        return lagging(state, np.minimum(target, POSITIONS[-1] - [0.03, 0, 0, 0, 0, 0]))

    def shaking(state: UrState, target: np.ndarray) -> UrState:
        return replace(lagging(state, target), qd=np.full(6, 0.05))

    for plant, code in ((short, "execution.tracking"), (shaking, "execution.timeout")):
        _, state, ending = drive(Stream(TIMES_S, POSITIONS, WELL), WELL, plant)
        assert ending is not None
        assert ending[0] == code
        assert state.stamp_s - WELL.stamp_s < TIMES_S[-1] + SETTLE_S + 0.1


def test_a_push_is_noticed_where_it_is_watched():
    pushed = replace(WELL, tcp_force=np.array([0, 30.0, 60, 9, 9, 9]))
    watched, unwatched = Stream(TIMES_S, POSITIONS, WELL, 60.0), Stream(TIMES_S, POSITIONS, WELL)
    ending = watched.ending(pushed)
    assert ending is not None
    assert ending[0] == "execution.force"
    assert unwatched.ending(pushed) is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"safety_bits": EMERGENCY | PROTECTIVE}, "execution.emergency_stop"),
        ({"safety_bits": FAULT | PROTECTIVE}, "execution.safety_fault"),
        ({"safety_bits": PROTECTIVE, "runtime_state": 1}, "execution.protective_stop"),
        ({"safety_bits": SAFEGUARD}, "execution.safeguard_stop"),
        ({"safety_bits": 2}, None),  # reduced mode: the arm moves, more slowly
        ({"robot_mode": 5, "runtime_state": 1}, "execution.power_off"),
        ({"runtime_state": 4}, "execution.program"),
        ({"has_control": False}, "execution.program"),
    ],
)
def test_the_gravest_fault_counts(change, code):
    fault = fault_of(replace(WELL, **change))
    assert (fault and fault[0]) == code


def test_a_reader_never_sees_half_a_state():
    with closing(Board()) as board:
        assert board.read() is None
        done = threading.Event()

        def write() -> None:
            number = 0.0
            while not done.is_set():
                number += 1
                vector = np.full(6, number)
                board.publish(replace(WELL, q=vector, qd=vector, tcp_pose=vector, tcp_force=vector, beat_s=number))

        writer = threading.Thread(target=write)
        writer.start()
        last = 0.0
        for _ in range(5000):
            state = board.read()
            if state is not None:
                seen = {*state.q, *state.qd, *state.tcp_pose, *state.tcp_force, state.beat_s}
                assert len(seen) == 1
                assert state.beat_s >= last
                last = state.beat_s
        done.set()
        writer.join()
    assert last > 1


def test_the_stop_flag_latches():
    with closing(Board()) as board:
        assert not board.stop_asked
        board.ask_stop()
        assert board.stop_asked
        assert not board.stop_obeyed
        board.obey_stop()
        assert board.stop_asked
        assert board.stop_obeyed
        board.forget_stop()
        assert not board.stop_asked
        board.ask_stop()
        assert not board.stop_obeyed, "an old obedience does not count"


def answer_with(replies: list[bytes]) -> tuple[socket.socket, threading.Thread]:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        link, _ = server.accept()
        with link:
            for reply in replies:
                link.sendall(reply)
                link.recv(100)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return server, thread


def test_the_dashboard_on_both_series():
    for answer, remote in ((b"true", True), (b"false", False), (b"could not understand: 'is in remote control'", True)):
        server, thread = answer_with([b"Connected: Universal Robots Dashboard Server\n", answer + b"\n", b""])
        with server, Dashboard("127.0.0.1", port=server.getsockname()[1]) as dashboard:
            assert dashboard.is_remote() == remote
        thread.join(5)


@pytest.mark.parametrize("replies", [[b""], [b"Connected\n", b""], [b"Connected\n", b"half a li"]])
def test_a_dashboard_that_hangs_up_or_says_nothing(replies):
    server, _ = answer_with(replies)
    with (
        server,
        pytest.raises(StageFailure) as caught,
        Dashboard("127.0.0.1", timeout_s=0.2, port=server.getsockname()[1]) as dashboard,
    ):
        dashboard.ask("robotmode")
    assert caught.value.code == "execution.comms"
    assert caught.value.evidence["steps"]
