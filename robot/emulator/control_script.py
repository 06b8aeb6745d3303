"""The program that ur_rtde 1.6.5 uploads, `rtde_control.script`, as Python generators: one `yield` is one `sync()`.

A mailbox in the registers: input integer 0 is the command, 1 its async flag, input doubles its arguments; output
integer 0 says READY (1) or DONE (2), 1 holds an integer result, 2 the progress of async motions, output doubles a
vector. The numbers are those of `RTDE::RobotCommand` in ur_rtde's rtde.h.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.emulator.kinematics import IDENTITY, compose, pose_of_rows, rows_of_pose
from affordagent.robot.emulator.motion import SafetyStop, ScriptError, Steps
from affordagent.robot.emulator.urscript import vector

if TYPE_CHECKING:
    from affordagent.robot.emulator.controller import Controller

BANNER = "RTDE Control Script Loaded"
_OFFSET = re.compile(r"reg_offset_int = # int register offset\n\s*(\d+)")
_PATH_MARK = "# inject move path\n"
_PATH_STEP = re.compile(r"(signal_async_progress|movej|movel|movep)\((.*)\)\n")
_BLEND_OPTIONS = re.compile(r",a=([^,]*),v=([^,]*),r=")
READY, DONE = 1, 2
_STEADY_RAD_S = 1e-4


class Command(IntEnum):
    NONE = 0
    MOVEJ = 1
    MOVEJ_IK = 2
    MOVEL = 3
    MOVEL_FK = 4
    ZERO_FT_SENSOR = 8
    SPEEDJ = 9
    SPEEDL = 10
    SERVOJ = 11
    SERVOC = 12
    SPEED_STOP = 15
    SERVO_STOP = 16
    SET_PAYLOAD = 17
    SERVOL = 24
    GET_STEPTIME = 26
    GET_ACTUAL_JOINT_POSITIONS = 27
    GET_TARGET_WAYPOINT = 28
    SET_TCP = 29
    GET_INVERSE_KINEMATICS_ARGS = 30
    PROTECTIVE_STOP = 31
    STOPL = 33
    STOPJ = 34
    SET_WATCHDOG = 35
    IS_POSE_WITHIN_SAFETY_LIMITS = 36
    IS_JOINTS_WITHIN_SAFETY_LIMITS = 37
    POSE_TRANS = 39
    GET_TCP_OFFSET = 40
    GET_FORWARD_KINEMATICS_DEFAULT = 43
    GET_FORWARD_KINEMATICS_ARGS = 44
    MOVE_PATH = 45
    GET_INVERSE_KINEMATICS_DEFAULT = 46
    IS_STEADY = 47
    GET_ACTUAL_TOOL_FLANGE_POSE = 58
    HAS_INVERSE_KINEMATICS_DEFAULT = 60
    HAS_INVERSE_KINEMATICS_ARGS = 61
    SET_GRAVITY = 65
    STOP_SCRIPT = 255


REALTIME = {6, 9, 10, 11, 24, 25, 26, 27, 38, 58, 66, 67, 68, 69, 70, 71}  # done again in every tick, never DONE
_STREAMED = {Command.SERVOJ: "servo", Command.SERVOL: "servo", Command.SPEEDJ: "speed", Command.SPEEDL: "speed"}


class ControlScript:
    """offset: of the registers it uses, 0 or 24. path: calls between the marks of an injected path."""

    def __init__(self, controller: Controller, offset: int, path: list[tuple[str, str]]) -> None:
        self._c, self._motion, self._program = controller, controller.motion, controller.program
        self._registers, self._offset, self._path = controller.registers, offset, path
        self._writes = self._operation = 0
        self._stops_linearly = False
        self._servo: tuple[Array, float] = (self._motion.q_cmd, 0.1)
        self._speed: tuple[bool, Array, float] = (True, np.zeros(6), 0.5)
        self._handlers = self._make_handlers()

    @classmethod
    def recognise(cls, controller: Controller, text: str) -> ControlScript | None:
        """The control script when the program is it."""
        if BANNER not in text:
            return None
        offset = _OFFSET.search(text)
        start = text.find(_PATH_MARK)
        path = _PATH_STEP.findall(text[start : text.find("\n    end", start) + 1]) if start >= 0 else []
        return cls(controller, int(offset[1]) if offset else 0, path)

    def run(self) -> Steps:
        """The main loop."""
        self._c.say("RTDE control script running")
        self._signal_progress(-1)
        self._write_int(0, READY)
        executed = False
        while True:
            number = self._int(0)
            if number in REALTIME:
                yield from self._process(number)
                self._write_int(0, READY)
            elif number == Command.NONE:
                executed = False
                self._write_int(0, READY)
            elif not executed:
                if number == Command.STOP_SCRIPT:
                    return
                yield from self._process(number)
                self._write_int(0, DONE)
                executed = True
            yield

    # ---- registers ------------------------------------------------------------------------------------------------

    def _double(self, index: int) -> float:
        return self._registers.in_double[index + self._offset]

    def _int(self, index: int) -> int:
        return self._registers.in_int[index + self._offset]

    def _six(self, index: int = 0) -> Array:
        start = index + self._offset
        return np.array(self._registers.in_double[start : start + 6])

    def _write_int(self, index: int, value: int) -> None:
        self._registers.out_int[index + self._offset] = value

    def _write_six(self, values: Array | list[float]) -> None:
        self._registers.out_double[self._offset : self._offset + 6] = [float(v) for v in values]

    def _signal_progress(self, value: int) -> None:
        """0 begins an operation, above 0 is how far it got, -1 ends it."""
        self._writes = (self._writes + 1) % 128
        if value == 0:
            self._operation = (self._operation + 1) % 128
        word = (self._writes << 16) + (self._operation << 24)
        self._write_int(2, word + (min(value, 0x7FFF) + 0x8000 if value >= 0 else 0))

    # ---- commands -------------------------------------------------------------------------------------------------

    def _process(self, number: int) -> Steps:
        handler = self._handlers.get(number)
        if handler is None:
            self._c.warn(f"command {number} of the control script is not emulated")
            raise ScriptError(f"command {number} is not emulated")
        kind = _STREAMED.get(Command(number))
        if kind is not None:
            arrived = self._registers.written_s.get(f"input_int_register_{self._offset}", self._c.t)
            self._c.log.stream(kind, self._c.t, arrived, self._c.plant.q.tolist())
        elif number not in REALTIME:
            self._c.say(Command(number).name.lower())
        steps = handler()
        if steps is not None:
            yield from steps

    def _make_handlers(self) -> dict[int, Callable[[], Steps | None]]:
        motion, kinematics = self._motion, self._motion.kinematics
        return {
            Command.MOVEJ: lambda: self._move(motion.movej(self._six(), self._double(6), self._double(7))),
            Command.MOVEJ_IK: lambda: self._move(
                motion.movej(motion.joints_of(self._six()), self._double(6), self._double(7))
            ),
            Command.MOVEL: lambda: self._move(
                motion.movel(rows_of_pose(self._six().tolist()), self._double(6), self._double(7))
            ),
            Command.MOVEL_FK: lambda: self._move(
                motion.movel(kinematics.tcp(self._six().tolist()), self._double(6), self._double(7))
            ),
            Command.MOVE_PATH: lambda: self._move(self._follow_path()),
            Command.SERVOJ: lambda: self._stream_servo(self._six(), self._double(9)),
            Command.SERVOL: lambda: self._stream_servo(motion.joints_of(self._six()), self._double(9)),
            Command.SPEEDJ: lambda: self._stream_speed(True),
            Command.SPEEDL: lambda: self._stream_speed(False),
            Command.SPEED_STOP: self._speed_stop,
            Command.SERVO_STOP: self._servo_stop,
            Command.STOPJ: self._stop,
            Command.STOPL: self._stop,
            Command.SET_PAYLOAD: self._set_payload,
            Command.SET_TCP: self._set_tcp,
            Command.SET_WATCHDOG: self._set_watchdog,
            Command.SET_GRAVITY: lambda: None,
            Command.ZERO_FT_SENSOR: self._zero_force,
            Command.PROTECTIVE_STOP: self._protective_stop,
            Command.GET_STEPTIME: lambda: self._write_six([self._c.dt_s, 0, 0, 0, 0, 0]),
            Command.GET_ACTUAL_JOINT_POSITIONS: lambda: self._write_six(self._c.plant.q),
            Command.GET_TARGET_WAYPOINT: lambda: self._write_pose(kinematics.tcp(motion.q_cmd.tolist())),
            Command.GET_TCP_OFFSET: lambda: self._write_pose(kinematics.T_flange_tcp),
            Command.GET_FORWARD_KINEMATICS_DEFAULT: lambda: self._write_pose(kinematics.tcp(self._c.plant.q.tolist())),
            Command.GET_FORWARD_KINEMATICS_ARGS: lambda: self._write_pose(
                kinematics.tcp(self._six().tolist(), rows_of_pose(self._six(6).tolist()))
            ),
            Command.GET_ACTUAL_TOOL_FLANGE_POSE: lambda: self._write_pose(
                kinematics.tcp(self._c.plant.q.tolist(), IDENTITY)
            ),
            Command.POSE_TRANS: lambda: self._write_pose(
                compose(rows_of_pose(self._six().tolist()), rows_of_pose(self._six(6).tolist()))
            ),
            Command.GET_INVERSE_KINEMATICS_DEFAULT: lambda: self._write_six(motion.joints_of(self._six())),
            Command.GET_INVERSE_KINEMATICS_ARGS: lambda: self._write_six(motion.joints_of(self._six(), self._six(6))),
            Command.HAS_INVERSE_KINEMATICS_DEFAULT: lambda: self._has_inverse(motion.q_cmd),
            Command.HAS_INVERSE_KINEMATICS_ARGS: lambda: self._has_inverse(self._six(6)),
            Command.IS_POSE_WITHIN_SAFETY_LIMITS: lambda: self._write_int(1, 1),
            Command.IS_JOINTS_WITHIN_SAFETY_LIMITS: lambda: self._write_int(1, 1),
            Command.IS_STEADY: lambda: self._write_int(1, int(np.abs(self._c.plant.qd).max() < _STEADY_RAD_S)),
        }

    def _write_pose(self, T: tuple[float, ...]) -> None:
        self._write_six(pose_of_rows(T))

    def _has_inverse(self, near: Array) -> None:
        found = self._motion.kinematics.inverse(rows_of_pose(self._six().tolist()), near)
        self._write_int(1, int(found is not None))

    def _move(self, steps: Steps) -> Steps | None:
        self._stop_async_move()
        if self._int(1) != 1:
            return steps
        self._program.start("move", self._in_background(steps))
        return None

    def _in_background(self, steps: Steps) -> Steps:
        self._signal_progress(0)
        yield from steps
        self._signal_progress(-1)

    def _stop_async_move(self) -> None:
        if self._program.kill("move"):
            self._signal_progress(-1)

    def _follow_path(self) -> Steps:
        for name, arguments in self._path:
            if name == "signal_async_progress":
                self._signal_progress(int(arguments))
                continue
            is_pose, values, rest = vector(arguments)
            options = _BLEND_OPTIONS.match(rest)
            if options is None:
                raise ScriptError(f"{name}: no acceleration and speed in {rest!r}")
            acceleration, speed = float(options[1]), float(options[2])
            if name == "movej":
                q = self._motion.joints_of(values) if is_pose else values
                yield from self._motion.movej(q, speed, acceleration)
            else:
                T = rows_of_pose(values) if is_pose else self._motion.kinematics.tcp(values)
                yield from self._motion.movel(T, speed, acceleration)

    def _stream_servo(self, target: Array, lookahead_s: float) -> None:
        self._servo = (target, lookahead_s)
        if "servo" not in self._program:
            self._program.start("servo", self._motion.servo(lambda: self._servo))

    def _stream_speed(self, of_joints: bool) -> None:
        self._speed = (of_joints, self._six(), self._double(6))
        if "speed" not in self._program:
            self._program.start("speed", self._motion.speed(lambda: self._speed))

    def _speed_stop(self) -> Steps:
        self._program.kill("speed")
        self._c.log.cut()
        return (self._motion.stopj if self._speed[0] else self._motion.stopl)(self._double(0))

    def _servo_stop(self) -> Steps:
        self._program.kill("servo")
        self._c.log.cut()
        return self._motion.stopl(self._double(0))

    def _stop(self) -> Steps | None:
        """Like the script: which of stopj and stopl it is depends on an earlier async stop, not on the command."""
        if self._program.kill("stop"):
            self._signal_progress(-1)
        else:
            self._stop_async_move()
        deceleration = self._double(0)
        if self._int(1) == 1:
            self._stops_linearly = True
            self._program.start("stop", self._in_background(self._motion.stopl(deceleration)))
            return None
        return (self._motion.stopl if self._stops_linearly else self._motion.stopj)(deceleration)

    def _set_payload(self) -> None:
        self._c.payload_kg = self._double(0)
        self._c.payload_cog_m = [self._double(i) for i in (1, 2, 3)]

    def _set_tcp(self) -> None:
        self._motion.kinematics.T_flange_tcp = rows_of_pose(self._six().tolist())

    def _set_watchdog(self) -> None:
        name = f"input_int_register_{self._offset}"
        self._c.watchdog = (name, self._double(0)) if self._double(0) > 0 else None

    def _zero_force(self) -> None:
        self._c.force_zero_n = self._c.plant.tcp_force_n.tolist()

    def _protective_stop(self) -> None:
        raise SafetyStop("protective_stop()")
