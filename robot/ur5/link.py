"""The parent's end of the worker: starts it, asks it, notices when it is gone, and makes sure that it is."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
import sys
import time
from typing import Any

from affordagent.core.errors import AffordAgentError
from affordagent.robot.ur5.state import Board, UrState

START_S = 20.0  # of a worker, connecting included: on a busy computer a new process takes long
HUNG_S = 3.0  # a worker that does not turn for so long is ended; a little more than it allows itself
LEAVE_S = 3.0
_POLL_S = 0.05


class WorkerLost(Exception):
    """The worker has lost the controller, ended, or hangs. It does not run any more; the controller's watchdog stops
    the arm."""


class Link:
    """A worker process and the memory it publishes to. One thread asks; `state`, `alive` and `kill` are for any thread.

    outputs: also connect for digital outputs. lost_s: silence of the controller that ends the link.

    Raises:
        AffordAgentError: `ur_rtde` is not installed.
        WorkerLost: no connection.
    """

    def __init__(self, host: str, board: Board, outputs: bool, lost_s: float = 0.5) -> None:
        self._board, self._number, self._unread = board, 0, b""
        command = [sys.executable, "-m", "affordagent.robot.ur5.worker", "--host", host]
        command += ["--board", str(board.fileno()), "--lost-s", str(lost_s)]
        self._process = subprocess.Popen(
            [*command, "--outputs"] if outputs else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=[board.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal is the parent's to handle
        )
        answer = self._answer(START_S, may_be_busy=True)
        if "missing" in answer:
            self.end()
            raise AffordAgentError(answer["missing"])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def state(self) -> UrState | None:
        """The newest state, whoever is busy; None before the first."""
        return self._board.read()

    def ask(self, op: str, *, within_s: float | None = None, **fields: Any) -> dict[str, Any]:
        """Give a command and wait for its answer.

        within_s: longest wait, in which the worker may be too busy to publish; None = as long as it publishes.

        Raises:
            WorkerLost: it ended, hangs, or did not answer in time.
        """
        self._number += 1
        self._board.parent_lives()
        line = memoryview(json.dumps({"id": self._number, "op": op, **fields}).encode() + b"\n")
        assert self._process.stdin is not None
        try:
            while line:
                line = line[self._process.stdin.write(line) :]
        except OSError as error:
            self.end()
            raise WorkerLost("the driver's process has ended") from error
        while True:
            answer = self._answer(within_s or float("inf"), may_be_busy=within_s is not None)
            if answer.get("id") == self._number:
                return answer

    def _answer(self, within_s: float, may_be_busy: bool) -> dict[str, Any]:
        end_s = time.monotonic() + within_s
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            self._board.parent_lives()
            if select.select([self._process.stdout], [], [], _POLL_S)[0]:
                data = self._process.stdout.read(1 << 16)
                if not data:
                    raise WorkerLost(f"the driver's process ended ({_how(self.end())})")
                self._unread += data
                continue
            state = self.state()
            hung = not may_be_busy and state is not None and time.monotonic() - state.beat_s > HUNG_S
            if hung or time.monotonic() > end_s:
                self.end()
                raise WorkerLost("the driver's process hangs and was ended")
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        if "lost" in answer:
            self.end()
            raise WorkerLost(answer["lost"])
        return answer

    def kill(self) -> None:
        """From any thread. The controller's watchdog then stops the arm; who waits for an answer gets WorkerLost."""
        self._process.kill()

    def end(self) -> int:
        """Kill the worker and clean up. Returns its exit code."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        return self._process.wait()

    def close(self) -> None:
        """Let the worker end our program and leave; kill it when it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_S)
        self.end()


def _how(code: int) -> str:
    if code == -signal.SIGALRM:
        return "the client hung"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
