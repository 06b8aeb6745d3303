"""The emulator's admin port from Python: faults, places, scenes, and what it saw."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

from affordagent.core.errors import AffordAgentError

ADMIN_PORT = 29998


class EmulatorClient:
    """One method an operation; `with EmulatorClient(host) as client:` closes the connection.

    Raises:
        AffordAgentError: nobody answers, or the emulator refuses the request and says why.
    """

    def __init__(self, host: str, port: int = ADMIN_PORT, timeout_s: float = 30.0) -> None:
        try:
            self._sock = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise AffordAgentError(
                f"no emulator at {host}:{port} ({error}): `affordagent emulator` starts one"
            ) from error
        self._file = self._sock.makefile("rwb")

    def __enter__(self) -> EmulatorClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def request(self, op: str, **arguments: Any) -> dict[str, Any]:
        try:
            self._file.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
            self._file.flush()
            line = self._file.readline()
        except OSError as error:
            raise AffordAgentError(f"the emulator does not answer {op!r}: {error}") from error
        if not line:
            raise AffordAgentError(f"the emulator ended before it answered {op!r}")
        answer = json.loads(line)
        if not answer.pop("ok"):
            raise AffordAgentError(f"emulator, {op!r}: {answer['error']}")
        return answer

    def state(self) -> dict[str, Any]:
        """pid, t, runtime (STOPPED, PLAYING, PAUSED), mode (POWER_OFF, POWER_ON, IDLE, RUNNING), safety (NORMAL,
        PROTECTIVE_STOP, SAFEGUARD_STOP, ROBOT_EMERGENCY_STOP, VIOLATION, FAULT), q, qd, gripper (position and target
        in counts, object = OBJ, width_m, target_m), scene, program, threads, warnings, late, ticks, tick_cpu_s,
        speed_scaling (limiter times slider), remote, watchdog_hz, digital_out, payload_kg, payload_cog_m."""
        return self.request("state")

    def fault(self, name: str, on: bool = True, **arguments: Any) -> float:
        """Set a fault, or end it with on=False; the names are in docs/emulator.md. Returns the controller's time."""
        return self.request("fault", name=name, on=on, **arguments)["t"]

    def clear(self) -> float:
        """What a person at the pendant would do: no fault, the arm ready, no program. Returns the controller's time."""
        return self.request("clear")["t"]

    def place(self, q: Sequence[float]) -> float:
        """The arm is at (6,) joints, rad, at rest. Returns the controller's time."""
        return self.request("place", q=[float(v) for v in q])["t"]

    def motions(self) -> list[dict[str, Any]]:
        """All motions since the start, in the order they began: see `motion_log.MotionRecord`."""
        return self.request("motions")["motions"]

    def scene(self, name: str, seed: int) -> dict[str, Any]:
        """Load a scene of the simulated cell; the program ends, the arm is at LOOK_Q. Takes a second or more, in which
        the controller's clock and its sockets stand still: connect the robot's client afterwards."""
        return self.request("scene", name=name, seed=seed)

    def snapshot(self) -> dict[str, Any]:
        """t, scene, qpos of the simulated cell."""
        return self.request("snapshot")

    def phase(self, name: str) -> None:
        """Contacts are logged under this name from now on (simulated cell)."""
        self.request("phase", name=name)

    def log(self) -> dict[str, Any]:
        """Contact logs by phase (simulated cell), as `robot.sim.contacts.PhaseLog.as_json` writes them."""
        return self.request("log")["log"]

    def pull(self, name: str, force_n: Sequence[float]) -> None:
        """A person pulls at an object of the scene with this force, base frame, from now on (simulated cell)."""
        self.request("pull", object=name, force_n=[float(v) for v in force_n])

    def object(self, width_m: float | None) -> None:
        """Something of that width between the fingers (plain plant); None takes it away."""
        self.request("object", width_m=width_m)

    def force(self, force_n: Sequence[float]) -> None:
        """A force on the tcp, base frame (plain plant)."""
        self.request("force", force_n=[float(v) for v in force_n])

    def quit(self) -> None:
        self.request("quit")
