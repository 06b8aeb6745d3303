"""The dashboard server on port 29999: one command a line, one answer a line.

Source: Universal Robots, "Dashboard server e-Series, port 29999" and "Dashboard server CB-Series".
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from affordagent.robot.emulator.connections import LineConnection
from affordagent.robot.emulator.controller import Controller, Runtime, Safety

BANNER = b"Connected: Universal Robots Dashboard Server\n"
SERIAL_NUMBER = "20245500001"
_TOO_EARLY = (
    "Cannot unlock protective stop until 5s after occurrence. Always inspect cause of protective stop before unlocking"
)
_LOCAL = (
    "Command is not allowed due to safety reasons, please switch robot to Remote Control mode and reconnect to "
    "port 29999"
)
_ALWAYS = {  # answered in local control, too
    "PolyscopeVersion", "get serial number", "get robot model", "is in remote control", "robotmode", "safetymode",
    "safetystatus", "running", "programState", "get loaded program", "quit", "close popup", "close safety popup",
    "stop",
}  # fmt: skip
_E_SERIES_ONLY = {"is in remote control"}  # a CB3 has no such mode


class DashboardConnection(LineConnection):
    """On an e-Series a connection may command if it was made in remote control."""

    def __init__(self, sock: socket.socket, controller: Controller) -> None:
        super().__init__(sock)
        self._c = controller
        self._made_in_remote = controller.remote
        self.send(BANNER)

    def answer(self, line: str) -> bytes:
        reply = self.reply(line.strip())
        self._c.say(f"dashboard {line!r}: {reply}")
        return f"{reply}\n".encode()

    def reply(self, command: str) -> str:
        c = self._c
        may_command = not c.is_e_series or (c.remote and self._made_in_remote)
        if command not in _ALWAYS and not may_command:
            return _LOCAL
        handler = self._handlers().get(command)
        if handler is not None and (c.is_e_series or command not in _E_SERIES_ONLY):
            return handler()
        if command.startswith("load "):
            return f"File not found: {command[5:]}"
        if command.startswith("popup "):
            return "showing popup"
        if command.startswith("addToLog"):
            c.say(command)
            return "Added log message"
        return f"could not understand: '{command}'"

    def _handlers(self) -> dict[str, Callable[[], str]]:
        c = self._c
        return {
            "PolyscopeVersion": lambda: "URSoftware {}.{}.{}.{} (Jan 01 2024)".format(*c.version),
            "get serial number": lambda: SERIAL_NUMBER,
            "get robot model": lambda: re.sub("e$", "", c.arm),
            "is in remote control": lambda: "true" if c.remote else "false",
            "robotmode": lambda: f"Robotmode: {c.mode.name}",
            "safetymode": lambda: f"Safetymode: {c.safety.name}",
            "safetystatus": lambda: f"Safetystatus: {c.safety.name}",
            "running": lambda: f"Program running: {'true' if c.runtime is Runtime.PLAYING else 'false'}",
            "programState": lambda: f"{c.runtime.name} {c.program_name or '<unnamed>'}",
            "get loaded program": lambda: "No program loaded",
            "power on": lambda: _did(c.power_on, "Powering on"),
            "power off": lambda: _did(c.power_off, "Powering off"),
            "brake release": lambda: _did(c.release_brakes, "Brake releasing"),
            "unlock protective stop": lambda: "Protective stop releasing" if c.unlock() else _TOO_EARLY,
            "close safety popup": lambda: "closing safety popup",
            "close popup": lambda: "closing popup",
            "restart safety": self._restart_safety,
            "stop": lambda: _did(lambda: c.stop_program("dashboard stop"), "Stopped"),
            "pause": self._pause,
            "play": self._play,
            "quit": self._quit,
        }

    def _restart_safety(self) -> str:
        """Only a violation or a fault needs it; the arm is off afterwards."""
        if self._c.safety in (Safety.VIOLATION, Safety.FAULT):
            self._c.end_safety_stop()
        return "Restarting safety"

    def _pause(self) -> str:
        if self._c.runtime is not Runtime.PLAYING:
            return "Failed to execute: pause"
        return _did(self._c.pause, "Pausing program")

    def _play(self) -> str:
        """Goes on with a paused program; there is none to start."""
        if self._c.runtime is not Runtime.PAUSED or self._c.safety is not Safety.NORMAL:
            return "Failed to execute: play"
        return _did(self._c.resume, "Starting program")

    def _quit(self) -> str:
        self._c.after(0.0, self._close)
        return "Disconnected"

    def _close(self) -> None:
        self.dead = True


def _did(call: Callable[[], None], answer: str) -> str:
    call()
    return answer
