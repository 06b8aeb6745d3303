"""The emulator's own port 29998, which no real controller has: one JSON object a line, one JSON object back."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from affordagent.robot.emulator.connections import LineConnection
from affordagent.robot.emulator.motion import MAX_JOINT_RAD

if TYPE_CHECKING:
    from affordagent.robot.emulator.server import Server


class AdminConnection(LineConnection):
    def __init__(self, sock: socket.socket, server: Server) -> None:
        super().__init__(sock)
        self._server, self._c = server, server.controller
        self._ops: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "state": lambda _: self._state(),
            "fault": self._fault,
            "clear": lambda _: self._clear(),
            "place": self._place,
            "motions": lambda _: self._motions(),
            "snapshot": lambda request: {"t": self._c.t, **self._c.plant.answer("snapshot", request)},
            "scene": self._scene,
            "quit": lambda _: self._quit(),
        }

    def answer(self, line: str) -> bytes:
        return json.dumps(self._reply(line)).encode() + b"\n"

    def _reply(self, line: str) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or not isinstance(request.get("op"), str):
                raise ValueError('a request is one JSON object with an "op"')
            op = request["op"]
            handler = self._ops.get(op)
            answer = handler(request) if handler is not None else self._c.plant.answer(op, request)
        except KeyError as error:
            return {"ok": False, "error": f"the request needs {error}"}
        except (ValueError, TypeError) as error:
            return {"ok": False, "error": str(error)}
        return {"ok": True, **answer}

    def _state(self) -> dict[str, Any]:
        c = self._c
        return {
            "pid": os.getpid(),
            "t": c.t,
            "runtime": c.runtime.name,
            "mode": c.mode.name,
            "safety": c.safety.name,
            "q": c.plant.q.tolist(),
            "qd": c.plant.qd.tolist(),
            "gripper": self._server.gripper.as_json(),
            "scene": c.plant.scene,
            "program": c.program_name,
            "threads": c.program.threads,
            "warnings": c.warnings,
            "late": self._server.late,
            "ticks": self._server.ticks,
            "tick_cpu_s": self._server.busy_s / max(self._server.ticks, 1),
            "speed_scaling": c.motion.scale,
            "remote": c.remote,
            "watchdog_hz": None if c.watchdog is None else c.watchdog[1],
            "digital_out": c.digital_out,
            "payload_kg": c.payload_kg,
            "payload_cog_m": c.payload_cog_m,
        }

    def _fault(self, request: dict[str, Any]) -> dict[str, Any]:
        self._server.faults.set(request["name"], bool(request.get("on", True)), request)
        self._server.apply_link()  # before the answer: who asked may connect at once
        return {"t": self._c.t}

    def _clear(self) -> dict[str, Any]:
        self._server.faults.clear()
        self._server.apply_link()
        return {"t": self._c.t}

    def _place(self, request: dict[str, Any]) -> dict[str, Any]:
        q = np.array(request["q"], float)
        if q.shape != (6,) or not (np.abs(q) <= MAX_JOINT_RAD).all():
            raise ValueError(f"q = {request['q']}, must be six joints within two turns of zero, rad")
        self._c.place(q)
        return {"t": self._c.t}

    def _motions(self) -> dict[str, Any]:
        plant = self._c.plant
        return {"t": self._c.t, "motions": self._c.log.as_json(plant.q.tolist(), plant.fingers.opening_m)}

    def _scene(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = self._c.plant.answer("scene", request)
        self._c.stop_program("another scene")
        self._c.settle()
        return answer

    def _quit(self) -> dict[str, Any]:
        self._server.quit = True
        return {}
