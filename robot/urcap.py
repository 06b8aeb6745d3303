"""The text protocol of Robotiq's URCap, on port 63352 of the controller.

`GET POS` is answered by `POS 3`, `SET POS 255 GTO 1` by `ack` without a line end; every value is `?` while the gripper
has no power. Source: the URScript functions that the URCap adds to programs.
"""

from __future__ import annotations

import re
import socket
import threading
import time

from affordagent.core.errors import StageFailure

PORT = 63352
_CONNECT_S, _REPLY_S, _QUIET_S = 1.0, 1.0, 0.05
_TRIES = 3  # each on a new connection
_LONGEST_REPLY = 64


def gripper_failure(message: str) -> StageFailure:
    return StageFailure("execute", "execution.gripper", message)


class _Garbled(Exception):
    """An answer that is none to what was asked."""


class UrcapLink:
    """One question at a time, from any thread.

    A link on which anything went wrong is closed, so that a late answer is never taken for that to the next question;
    then the same question is put again on a new one. All commands name absolute set-points, so that repeating one
    changes nothing.
    """

    def __init__(self, host: str, port: int = PORT) -> None:
        self.address = (host, port)
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def get(self, name: str) -> str:
        """The value of a variable, as the URCap writes it.

        Raises:
            StageFailure: ("execute", "execution.gripper"): no fitting answer, within a few seconds.
        """
        return self._ask(f"GET {name}", re.compile(rf"{name} (\S+)".encode())).group(1).decode("ascii", "replace")

    def set(self, **values: int) -> None:
        """Write variables, all at once. Raises like `get`."""
        self._ask("SET " + " ".join(f"{name} {value}" for name, value in values.items()), re.compile(rb"ack"))

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _ask(self, line: str, answer: re.Pattern[bytes]) -> re.Match[bytes]:
        last: Exception | None = None
        with self._lock:
            for _ in range(_TRIES):
                try:
                    return self._exchange(line, answer)
                except (OSError, _Garbled) as error:
                    self._drop()
                    last = error
        host, port = self.address
        raise gripper_failure(
            f"the gripper at {host}:{port} gave no answer to '{line}' in {_TRIES} attempts: {last}. "
            "Check that Robotiq's URCap is installed and that the robot is switched on"
        ) from last

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, line: str, answer: re.Pattern[bytes]) -> re.Match[bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(self.address, _CONNECT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link, text = self._socket, b""
        link.settimeout(_REPLY_S)
        link.sendall(line.encode("ascii") + b"\n")
        end_s = time.monotonic() + _REPLY_S
        while True:
            match = answer.fullmatch(text.strip())
            if match is not None and (text.endswith(b"\n") or match.lastindex is None):
                return match
            if text.endswith(b"\n") or len(text) > _LONGEST_REPLY:
                raise _Garbled(f"it said {text[:_LONGEST_REPLY]!r}")
            link.settimeout(_QUIET_S if match else max(end_s - time.monotonic(), 1e-3))
            try:
                received = link.recv(256)
            except TimeoutError:
                if match is not None:  # some versions send no line end
                    return match
                raise
            if not received:
                raise ConnectionError(f"the link was closed after {text!r}")
            text = (text + received).lstrip()
