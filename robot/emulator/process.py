"""The emulator as a child process, for tests and evaluations. A process of its own is a must: the constructors of
ur_rtde hold Python's lock while they wait for the controller."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import IO

from affordagent.core.errors import AffordAgentError
from affordagent.robot.emulator.client import EmulatorClient

_POLL_S = 0.02


class Emulator:
    """A running emulator: `with start_emulator(...) as emulator:` ends it whatever happens.

    host: where it listens. admin: its client.
    """

    def __init__(self, host: str, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.host = host
        self._process, self._log = process, log
        self._admin: EmulatorClient | None = None

    @property
    def admin(self) -> EmulatorClient:
        if self._admin is None:
            self._admin = EmulatorClient(self.host)
        return self._admin

    @property
    def pid(self) -> int:
        return self._process.pid

    def output(self) -> str:
        """What it has printed."""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the process; its ports are free afterwards."""
        self._disconnect()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _disconnect(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def wait_until_ready(self, timeout_s: float) -> None:
        """Raises AffordAgentError when it ends, or does not listen in time."""
        end_s = time.monotonic() + timeout_s
        while True:
            if self._process.poll() is not None:
                raise AffordAgentError(f"the emulator on {self.host} ended at once: {self.output().strip()[-500:]}")
            try:
                if self.admin.state()["pid"] == self.pid:  # and not another's, whose ports this one cannot get
                    return
                self._disconnect()
            except AffordAgentError as error:
                if time.monotonic() > end_s:
                    raise AffordAgentError(f"the emulator did not start within {timeout_s:.0f} s: {error}") from error
            time.sleep(_POLL_S)


def start_emulator(
    host: str = "127.0.0.1",
    *,
    model: str = "UR5e",
    version: str | None = None,
    scene: str | None = None,
    seed: int = 0,
    speedup: float = 1.0,
    powered: bool = True,
    timeout_s: float = 60.0,
) -> Emulator:
    """Start an emulator that ends with this process, and wait until it listens.

    scene: of the simulated cell; None takes the plain plant.

    Raises:
        AffordAgentError: it does not start; the message holds what it printed.
    """
    command = [sys.executable, "-m", "affordagent.robot.emulator", "--host", host, "--model", model]
    command += ["--speedup", str(speedup), "--parent", str(os.getpid())]
    command += ["--plain"] if scene is None else ["--scene", scene, "--seed", str(seed)]
    command += [] if version is None else ["--version", version]
    command += [] if powered else ["--off"]
    log = tempfile.TemporaryFile()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    emulator = Emulator(host, process, log)
    try:
        emulator.wait_until_ready(timeout_s)
    except BaseException:
        emulator.stop()
        raise
    return emulator
