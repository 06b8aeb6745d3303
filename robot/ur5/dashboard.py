"""The dashboard server of a controller: one line out, one line back (Universal Robots, "Dashboard server", port 29999).

A plain socket, so that it works when the RTDE client does not.
"""

from __future__ import annotations

import socket

from affordagent.core.errors import StageFailure

PORT = 29999


class Dashboard:
    """`with Dashboard(host) as dashboard: dashboard.ask("robotmode")`. Not for use by two threads at once.

    Raises:
        StageFailure: ("execute", "execution.comms"): nobody answers in time.
    """

    def __init__(self, host: str, timeout_s: float = 2.0, port: int = PORT) -> None:
        self.host = host
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
            self._lines = self._socket.makefile("rb")
            self._line()  # the greeting
        except OSError as error:
            raise self._lost(error) from error

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *exc: object) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, command: str) -> str:
        """Send one command, e.g. "unlock protective stop", and return its answer.

        Raises:
            StageFailure: ("execute", "execution.comms"): no answer in time.
        """
        try:
            self._socket.sendall(command.encode() + b"\n")
            return self._line()
        except OSError as error:
            raise self._lost(error) from error

    def is_remote(self) -> bool:
        """Whether programs from outside are let in. A CB3 always lets them in and does not know the question."""
        return not self.ask("is in remote control").lower().startswith("false")

    def _line(self) -> str:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the dashboard server hung up")
        return line.decode("utf-8", "replace").strip()

    def _lost(self, error: OSError) -> StageFailure:
        return StageFailure(
            "execute",
            "execution.comms",
            f"the controller's dashboard server at {self.host}:{PORT} does not answer ({error}): check that the "
            "controller is on, the cable, and the address in the cell's name",
            host=self.host,
            steps=[
                "Check that the controller is on",
                f"Check the network: ping {self.host}",
                "e-Series: enable Dashboard Server, RTDE and Real-Time Client (Settings, Security, Services)",
                "For the emulator: `affordagent emulator` in another terminal, with the same --host",
            ],
        )
