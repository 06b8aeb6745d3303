"""An arm that outlives the process that commands it: a small server that records what it is told, and its client."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.types import JointTrajectory
from affordagent.robot.interface import LOOK_Q, ArmState, MotionResult


class ArmWorld:
    """`with ArmWorld(path) as world:` serves one client after the other on a Unix socket. told: what was sent, in
    order. object_m: width of what is between the fingers when they close. ends_in: the phase that is cut off half way,
    when its commander dies. taken_in: in phases of this beginning a person takes the object, at the third order."""

    def __init__(self, path: Path, object_m: float = 0.03, ends_in: str = "", taken_in: str = "") -> None:
        self.path, self.object_m, self._ends_in, self._taken_in = path, object_m, ends_in, taken_in
        self.told: list[str] = []
        self.q, self.width_m, self.time_s = LOOK_Q.copy(), 0.085, 0.0
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> ArmWorld:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with contextlib.suppress(ConnectionError), client, client.makefile("rwb") as stream:
                for line in stream:
                    self._obey(client, stream, json.loads(line))

    def _obey(self, client: socket.socket, stream: Any, order: dict[str, Any]) -> None:
        if order["op"] != "read":
            self._move(order, half_way=order["phase"] == self._ends_in)
            if order["phase"] == self._ends_in:
                client.recv(1, socket.MSG_PEEK)  # nothing comes any more
        holding = bool(self.object_m > 0 and abs(self.width_m - self.object_m) < 1e-6)
        answer = {"positions": self.q.tolist(), "width_m": self.width_m, "time_s": self.time_s, "holding": holding}
        stream.write(json.dumps(answer).encode() + b"\n")
        stream.flush()

    def _move(self, order: dict[str, Any], half_way: bool) -> None:
        share = 0.5 if half_way else 1.0
        self.told.append(order["phase"])
        self.time_s += share
        self.q = self.q + share * (np.array(order.get("positions", self.q)) - self.q)
        width_m = max(order["width_m"], self.object_m) if "width_m" in order else self.width_m
        self.width_m += share * (width_m - self.width_m)
        taken_in = self._taken_in and order["phase"].startswith(self._taken_in)
        if taken_in and sum(phase.startswith(self._taken_in) for phase in self.told) >= 3:
            self.object_m = self.width_m = 0.0


class WorldArm:
    """`robot.interface.Arm` on an `ArmWorld`. on_sent: called when an order is on its way."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(5)
        self._socket.connect(str(path))
        self._stream = self._socket.makefile("rwb")
        self.on_sent = lambda: None

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _ask(self, **order: Any) -> ArmState:
        self._stream.write(json.dumps(order).encode() + b"\n")
        self._stream.flush()
        if order["op"] != "read":
            self.on_sent()
        answer = json.loads(self._stream.readline())
        return ArmState(np.array(answer["positions"]), answer["width_m"], answer["time_s"], holding=answer["holding"])

    def make_ready(self) -> list[str]:
        return []

    def read(self) -> ArmState:
        return self._ask(op="read")

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        return MotionResult(True, self._ask(op="follow", phase=phase, positions=trajectory.positions[-1].tolist()))

    def grip(self, width_m: float, phase: str) -> MotionResult:
        return MotionResult(True, self._ask(op="grip", phase=phase, width_m=width_m))

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        return MotionResult(True, self._ask(op="wait", phase=phase))

    def stop(self) -> None:
        raise AssertionError("nobody stops here")
