"""The process that holds `ur_rtde`, and the only one that imports it: the client hangs or crashes with a broken link.

    python -m affordagent.robot.ur5.worker --host HOST --board FD --lost-s SECONDS [--outputs]

Commands come as JSON lines on stdin, {"id": 1, "op": "follow", ...}; each gets one answer on stdout, {"id": 1, ...}.
The state goes to the shared `Board` at every turn, and the stop flag comes from there. The worker stops the arm and
leaves when stdin ends (the parent died), and ends a motion while the parent stands still. It leaves at once when the
link is lost: it then no longer feeds the controller's watchdog, which stops the arm within 1 / watchdog_hz. Nothing is
sent to the arm unless the controller's clock has advanced, so that a link that delivers nothing has the same effect. A
turn that hangs ends the process (SIGALRM).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from affordagent.robot.ur5.state import STOPPED, Board, UrState, fault_of
from affordagent.robot.ur5.stream import PERIOD_S, Stream

LOOKAHEAD_S, GAIN = 0.1, 300.0  # of servoj
STOP_M_S2 = 10.0  # deceleration of the tcp, the client's default
HANG_S, CONNECT_S, UPLOAD_S = 2.0, 5.0, 10.0  # longest turn, connecting, upload: then the process ends
PARENT_SILENT_S = 1.0  # a parent that lives but stands still (Ctrl-Z) could not stop the arm either
BEAT_S = 0.02  # without news, a sign of life for the parent
_TURN_S = 0.002
_LONGEST_TURN_S = 0.05  # a turn that took longer was held up here: neither the link nor the parent is to blame
REAL_TIME_PRIORITY = 1
_READY_S = 2 * PERIOD_S  # until our program takes the next command after a stop: the client waits for it in a busy loop
_PROGRAM_S, _REST_S, _OTHER_PROGRAM_S = 5.0, 1.0, 1.0
_VARIABLES = (
    "timestamp", "actual_q", "actual_qd", "actual_TCP_pose", "actual_TCP_force", "robot_mode", "safety_status_bits",
    "runtime_state", "robot_status_bits", "speed_scaling", "target_speed_fraction",
)  # fmt: skip


class LinkLost(Exception):
    """The controller is not heard of any more."""


class Worker:
    """One connection to a controller. `run` returns when nobody is left to give commands.

    Raises:
        ImportError: `ur_rtde` is not installed.
        LinkLost, RuntimeError: no connection.
    """

    def __init__(self, host: str, board: Board, answers: int, lost_s: float, outputs: bool) -> None:
        self._host, self._board, self._answers, self._lost_s = host, board, answers, lost_s
        self._parent, self._orphaned = os.getppid(), False
        self._control: Any = None
        self._io: Any = None
        self._commands: list[dict[str, Any]] = []
        self._unread = b""
        self._stamp_s = 0.0
        self._seen_s = self._turned_s = self._beat_s = time.monotonic()
        self._silent_s = self._parent_silent_s = self._parent_beat_s = 0.0
        self._moving = False  # set-points are being sent
        self._quiet_s = 0.0  # of the controller's time, before which it takes no command
        self._watched = False  # the controller's watchdog has been set: our program must be fed
        from rtde_receive import RTDEReceiveInterface

        _allow(CONNECT_S)
        self._receive = RTDEReceiveInterface(host, 1 / PERIOD_S, list(_VARIABLES))
        if not self._receive.isConnected():  # the constructor gives up silently when no data comes
            raise LinkLost("the controller accepts connections but sends no data")
        if outputs:
            from rtde_io import RTDEIOInterface

            self._io = RTDEIOInterface(host)

    def run(self) -> None:
        operations: dict[str, Callable[..., dict[str, Any]]] = {
            "prepare": self.prepare,
            "follow": self.follow,
            "output": self.output,
        }
        while not self._orphaned:
            state = self.turn()
            ready = state is not None and state.stamp_s >= self._quiet_s and fault_of(state) is None
            if ready and self._watched:
                self._control.kickWatchdog()
            if self._commands:
                command = self._commands.pop(0)
                number, op = command.pop("id"), command.pop("op")
                say(self._answers, {"id": number, **operations[op](**command)})

    # ---- the link -----------------------------------------------------------------------------------------------
    def turn(self) -> UrState | None:
        """Wait a little for commands, publish the state. Returns it when the controller's clock has advanced."""
        _allow(HANG_S)
        if self._orphaned:
            time.sleep(_TURN_S)
        elif select.select([0], [], [], _TURN_S)[0]:
            data = os.read(0, 1 << 20)
            self._orphaned = not data
            *lines, self._unread = (self._unread + data).split(b"\n")
            self._commands += [json.loads(line) for line in lines]
        self._orphaned = self._orphaned or os.getppid() != self._parent
        if not self._receive.isConnected() or (self._control is not None and not self._control.isConnected()):
            raise LinkLost("the controller closed the connection")
        now_s, stamp_s = time.monotonic(), self._receive.getTimestamp()
        turn_s, self._turned_s = min(now_s - self._turned_s, _LONGEST_TURN_S), now_s
        self._silent_s += turn_s
        parent_beat_s = self._board.parent_beat_s
        self._parent_silent_s = 0.0 if parent_beat_s != self._parent_beat_s else self._parent_silent_s + turn_s
        self._parent_beat_s = parent_beat_s
        if self._board.stop_asked and not self._moving:
            self._board.obey_stop()
        news = stamp_s != self._stamp_s
        if news:
            self._stamp_s, self._seen_s, self._silent_s = stamp_s, now_s, 0.0
        elif now_s < self._beat_s + BEAT_S:
            return None
        self._beat_s = now_s
        state = self._state()
        self._board.publish(state)
        if self._silent_s > self._lost_s:
            raise LinkLost(f"the controller has sent nothing new for {self._lost_s} s")
        return state if news else None

    def fresh(self) -> UrState:
        """The next state in which the controller's clock has advanced."""
        while True:
            state = self.turn()
            if state is not None:
                return state

    def _state(self) -> UrState:
        r = self._receive
        return UrState(
            q=np.array(r.getActualQ()),
            qd=np.array(r.getActualQd()),
            tcp_pose=np.array(r.getActualTCPPose()),
            tcp_force=np.array(r.getActualTCPForce()),
            robot_mode=r.getRobotMode(),
            safety_bits=r.getSafetyStatusBits(),
            runtime_state=r.getRuntimeState(),
            speed_scaling=r.getSpeedScaling() * r.getTargetSpeedFraction(),
            has_control=self._watched,
            stamp_s=self._stamp_s,
            seen_s=self._seen_s,
            beat_s=self._beat_s,
        )

    # ---- commands -----------------------------------------------------------------------------------------------
    def prepare(
        self, tcp: list[float], payload_kg: float, cog_m: list[float], watchdog_hz: float, zero_force: bool
    ) -> dict[str, Any]:
        """Upload our program, wait for it, and set tcp, payload and watchdog. Another program is left alone.

        Once in the life of a worker: the client's constructor clears the command register of the controller, its
        `reuploadScript` does not, and the new program would servo on to the last set-point of the old one.
        """
        from rtde_control import RTDEControlInterface

        state = self.fresh()
        end_s = state.stamp_s + _OTHER_PROGRAM_S
        while state.runtime_state != STOPPED:  # ours, of a worker that died, ends within 1 / watchdog_hz
            if state.stamp_s > end_s:
                return _failed("execution.program", "another program runs on the controller: end it on the pendant")
            state = self.fresh()
        _allow(UPLOAD_S)
        try:
            self._control = RTDEControlInterface(self._host, 1 / PERIOD_S)
        except RuntimeError as error:
            return _failed("execution.program", f"the controller did not start our program: {error}")
        end_s = time.monotonic() + _PROGRAM_S
        while not self._control.isProgramRunning():
            self.turn()
            if time.monotonic() > end_s:
                return _failed("execution.program", f"our program did not start within {_PROGRAM_S:.0f} s")
        refused = self._set_up(tcp, payload_kg, cog_m, watchdog_hz, zero_force)
        if refused is not None:
            self._control.stopScript()
            return _failed("execution.program", f"the controller did not take {refused}")
        self._watched = True
        _hurry()
        self.fresh()
        return {"reached": True}

    def _set_up(
        self, tcp: list[float], payload_kg: float, cog_m: list[float], watchdog_hz: float, zero_force: bool
    ) -> str | None:
        """The name of the first thing that the controller did not take."""
        control = self._control
        for name, call in (
            ("setTcp", lambda: control.setTcp(tcp)),
            ("setPayload", lambda: control.setPayload(payload_kg, cog_m)),
            ("zeroFtSensor", lambda: not zero_force or control.zeroFtSensor()),
            ("setWatchdog", lambda: control.setWatchdog(watchdog_hz)),
        ):
            _allow(HANG_S)
            if not call():
                return name
        return None

    def follow(self, times_s: list[float], positions: list[list[float]], force_limit_n: float | None) -> dict[str, Any]:
        """Stream a trajectory; the answer says how it ended."""
        state = self.fresh()
        while state.stamp_s < self._quiet_s:
            state = self.fresh()
        stream = Stream(np.array(times_s), np.array(positions), state, force_limit_n)
        ending = fault_of(state) or stream.mismatch(state)
        while ending is None and not stream.arrived(state):
            if self._board.stop_asked or self._orphaned:
                ending = "execution.stopped", "stopped on request"
                break
            if self._parent_silent_s > PARENT_SILENT_S:
                ending = "execution.comms", f"the program that asked for the motion stood still for {PARENT_SILENT_S} s"
                break
            self._moving = True
            if not self._control.servoJ(list(stream.step(state)), 0.0, 0.0, PERIOD_S, LOOKAHEAD_S, GAIN):
                ending = "execution.program", "the controller did not take a set-point"
            state = self.fresh()
            ending = fault_of(state) or ending or stream.ending(state)
        if self._moving:
            state = self.rest()
        answer = {"reached": True} if ending is None else _failed(*ending)
        return {**answer, "max_error_rad": stream.error_rad(state)}

    def rest(self) -> UrState:
        """End the servoing, so that no thread of our program goes on at the controller; let the arm come to rest.

        A program whose servoing cannot be ended is given up: it may only be paused, and would go on by itself when a
        safeguard closes. It is not fed any more, and the parent ends it.
        """
        self._moving = False
        if self._board.stop_asked:
            self._board.obey_stop()
        if fault_of(self._state()) is not None or not self._control.servoStop(STOP_M_S2):
            self._watched = False
        state = self.fresh()
        self._quiet_s = state.stamp_s + _READY_S
        end_s = state.stamp_s + _REST_S
        while not state.at_rest and state.stamp_s < end_s:
            state = self.fresh()
        return state

    def output(self, pin: int, on: bool) -> dict[str, Any]:
        """Set a standard digital output."""
        if self._io is None:
            return _failed("execution.gripper", "this connection was opened without digital outputs")
        return {"reached": bool(self._io.setStandardDigitalOut(pin, on))}

    def close(self) -> None:
        """End our program. Connections and destructors are left to the end of the process."""
        _allow(HANG_S)
        if self._control is not None and fault_of(self._state()) is None:
            self._control.stopScript()


def _failed(code: str, message: str) -> dict[str, Any]:
    return {"reached": False, "code": code, "message": message}


def _allow(seconds: float) -> None:
    """Let the kernel end this process unless called again within that time; needs no thread and no interpreter lock."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _hurry() -> None:
    """All our threads before all that only computes, where the system grants it: a set-point that is late is of no use.
    Not while connecting, since the client does that in busy loops."""
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(PermissionError):
            for thread in os.listdir("/proc/self/task"):
                os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(REAL_TIME_PRIORITY))


def say(answers: int, answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(answers, json.dumps(answer).encode() + b"\n")


def main() -> NoReturn:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--board", type=int, required=True)
    parser.add_argument("--lost-s", type=float, required=True)
    parser.add_argument("--outputs", action="store_true")
    options = parser.parse_args()
    answers = os.dup(1)
    os.dup2(2, 1)  # the client prints to stdout
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        worker = Worker(options.host, Board(options.board), answers, options.lost_s, options.outputs)
        say(answers, {"ready": True})
        worker.run()
        worker.close()
        leave(0)
    except ImportError:
        say(answers, {"missing": "ur_rtde is not installed: pip install 'affordagent[ur5]'"})
        leave(1)
    except (LinkLost, RuntimeError) as error:
        say(answers, {"lost": str(error)})
        leave(1)


def leave(code: int) -> NoReturn:
    """End the process without the client's destructors: they take long, and hang or abort once the link is lost."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
