"""What the worker says of the controller, and the memory it says it in.

The worker and its parent share one small block of memory (`Board`): the newest state behind a sequence lock, so that
the parent never waits for the worker and never reads a torn or an old message, and the stop flag.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from dataclasses import dataclass

import numpy as np

RUNNING_MODE = 7  # robot_mode: brakes released
STOPPED, PLAYING, PAUSED = 1, 2, 4  # runtime_state
PROTECTIVE, RECOVERY, SAFEGUARD, VIOLATION, FAULT = 1 << 2, 1 << 3, 1 << 4, 1 << 8, 1 << 9  # of safety_status_bits
EMERGENCY = 1 << 5 | 1 << 6 | 1 << 7
AT_REST_RAD_S = 0.01

_NUMBERS = struct.Struct("<24d8d")
_COUNTER = struct.Struct("<Q")
_ASKED_AT, _FORGOTTEN_AT, _OBEYED_AT = 0, 8, 16  # counts of stops: two of the parent, one of the worker
_PARENT_AT, _STATE_AT = 24, 32
_SECONDS = struct.Struct("<d")
_SIZE = _STATE_AT + _COUNTER.size + _NUMBERS.size


@dataclass(frozen=True)
class UrState:
    """One look at the controller.

    q, qd: (6,) rad, rad/s. tcp_pose: (6,) m and rotation vector, of the tcp that is set on the controller, in the base
    frame. tcp_force: (6,) N, Nm. robot_mode, safety_bits, runtime_state: as in Universal Robots' RTDE guide.
    speed_scaling: 1 = as told. has_control: our program has been uploaded by this worker and runs. stamp_s: the
    controller's clock. seen_s: `time.monotonic` when that clock was last seen to advance. beat_s: `time.monotonic` of
    the worker's last turn.
    """

    q: np.ndarray
    qd: np.ndarray
    tcp_pose: np.ndarray
    tcp_force: np.ndarray
    robot_mode: int
    safety_bits: int
    runtime_state: int
    speed_scaling: float
    has_control: bool
    stamp_s: float
    seen_s: float
    beat_s: float

    @property
    def age_s(self) -> float:
        """Time since the controller was last heard of, seconds."""
        return time.monotonic() - self.seen_s

    @property
    def at_rest(self) -> bool:
        return bool(np.abs(self.qd).max() < AT_REST_RAD_S)


def fault_of(state: UrState) -> tuple[str, str] | None:
    """The `execution.*` code and a sentence for what keeps the arm from moving, the gravest first; None if nothing.
    The age of the state is not looked at."""
    bits = state.safety_bits
    if bits & EMERGENCY:
        return "execution.emergency_stop", "an emergency stop is pressed"
    if bits & (VIOLATION | FAULT | RECOVERY):
        return "execution.safety_fault", f"the controller reports a safety violation or fault (bits {bits:#x})"
    if bits & PROTECTIVE:
        return "execution.protective_stop", "the arm is in a protective stop: it has met or nearly met something"
    if bits & SAFEGUARD:
        return "execution.safeguard_stop", "a safeguard (gate, light curtain, scanner) holds the arm"
    if state.robot_mode != RUNNING_MODE:
        return "execution.power_off", f"the arm is not running (robot mode {state.robot_mode}, 7 = running)"
    if state.runtime_state != PLAYING or not state.has_control:
        return "execution.program", "our control program does not run on the controller"
    return None


def _anonymous_file() -> int:
    """In memory where the system has such files: writing to a page of a file on disk may have to wait for the disk."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("ur5")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _SIZE)
    return fd


class Board:
    """The block of memory. The parent makes one (`Board()`), hands `fileno()` to the worker, which opens it with
    `Board(fd)`. One writer each for the state and the two counters; aligned 8-byte writes do not tear."""

    def __init__(self, fd: int | None = None) -> None:
        self._is_ours = fd is None
        self._fd = _anonymous_file() if fd is None else fd
        self._memory = mmap.mmap(self._fd, _SIZE)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        self._memory.close()
        if self._is_ours:
            os.close(self._fd)

    def _counter(self, at: int) -> int:
        return int(_COUNTER.unpack_from(self._memory, at)[0])

    def publish(self, state: UrState) -> None:
        """Odd count, numbers, even count: a reader that sees an odd or a changed count looks again."""
        count = self._counter(_STATE_AT)
        _COUNTER.pack_into(self._memory, _STATE_AT, count + 1)
        scalars = (state.robot_mode, state.safety_bits, state.runtime_state, state.speed_scaling, state.has_control)
        times = (state.stamp_s, state.seen_s, state.beat_s)
        vectors = np.concatenate([state.q, state.qd, state.tcp_pose, state.tcp_force])
        _NUMBERS.pack_into(self._memory, _STATE_AT + _COUNTER.size, *vectors, *scalars, *times)
        _COUNTER.pack_into(self._memory, _STATE_AT, count + 2)

    def read(self) -> UrState | None:
        """The newest state; None before the first."""
        while True:
            before = self._counter(_STATE_AT)
            if before == 0:
                return None
            numbers = _NUMBERS.unpack_from(self._memory, _STATE_AT + _COUNTER.size)
            if before % 2 == 0 and self._counter(_STATE_AT) == before:
                break
            time.sleep(0.0001)
        q, qd, tcp_pose, tcp_force = np.reshape(numbers[:24], (4, 6))
        mode, bits, runtime, scaling, control, stamp_s, seen_s, beat_s = numbers[24:]
        return UrState(
            q, qd, tcp_pose, tcp_force, int(mode), int(bits), int(runtime), scaling, bool(control), stamp_s, seen_s,
            beat_s,
        )  # fmt: skip

    def parent_lives(self) -> None:
        """Parent: while it waits for the end of a motion."""
        _SECONDS.pack_into(self._memory, _PARENT_AT, time.monotonic())

    @property
    def parent_beat_s(self) -> float:
        """`time.monotonic` when the parent last waited."""
        return float(_SECONDS.unpack_from(self._memory, _PARENT_AT)[0])

    def ask_stop(self) -> None:
        """Parent: nothing may move from now on."""
        _COUNTER.pack_into(self._memory, _ASKED_AT, self._counter(_ASKED_AT) + 1)

    def forget_stop(self) -> None:
        """Parent: it may move again."""
        _COUNTER.pack_into(self._memory, _FORGOTTEN_AT, self._counter(_ASKED_AT))

    @property
    def stop_asked(self) -> bool:
        return self._counter(_ASKED_AT) > self._counter(_FORGOTTEN_AT)

    def obey_stop(self) -> None:
        """Worker: seen; no set-point is sent any more."""
        _COUNTER.pack_into(self._memory, _OBEYED_AT, self._counter(_ASKED_AT))

    @property
    def stop_obeyed(self) -> bool:
        return self._counter(_OBEYED_AT) >= self._counter(_ASKED_AT)
