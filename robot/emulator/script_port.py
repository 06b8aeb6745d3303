"""The script ports 30001 to 30003: programs come in, nothing goes out."""

from __future__ import annotations

import socket

from affordagent.robot.emulator.connections import LineConnection
from affordagent.robot.emulator.controller import Controller
from affordagent.robot.emulator.urscript import Splitter


class ScriptConnection(LineConnection):
    def __init__(self, sock: socket.socket, controller: Controller) -> None:
        super().__init__(sock)
        self._c, self._splitter = controller, Splitter()

    def answer(self, line: str) -> bytes:
        text = self._splitter.add(line)
        if text is not None:
            self._c.load_script(text)
        return b""
