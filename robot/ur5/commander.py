"""One process commands an arm: a lock that the system takes back when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError


def state_folder() -> Path:
    """Where this user's programs keep what must outlive a process (XDG base directory specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state") / "affordagent"


class Commander:
    """`with Commander(host):` nobody else on this computer commands the controller at `host`.

    The lock file also remembers the last run that was to move the arm (`remember`), so that one that was cut off is
    found again wherever its folder is.

    Raises:
        AffordAgentError: another process holds the lock; says which.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.file = state_folder() / f"ur5-{re.sub(r'[^0-9A-Za-z.-]', '_', _address(host))}.lock"
        self._descriptor: int | None = None
        self._last_run: str | None = None

    def __enter__(self) -> Commander:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read(descriptor)
            os.close(descriptor)
            raise AffordAgentError(
                f"another program already commands the arm at {self.host}: process {holder.get('pid', 'unknown')}, "
                f"since {holder.get('since', 'an unknown time')} ({self.file}). Wait until it ends, or end it"
            ) from error
        self._descriptor, self._last_run = descriptor, _read(descriptor).get("run")
        self._write()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # gives the lock back; the file stays, with the last run
            self._descriptor = None

    @property
    def last_run(self) -> Path | None:
        """The folder of the last run that was to move this arm."""
        return None if self._last_run is None else Path(self._last_run)

    def remember(self, run_dir: Path) -> None:
        """From now on `run_dir` is the last run."""
        self._last_run = str(run_dir.resolve())
        self._write()

    def _write(self) -> None:
        assert self._descriptor is not None, "the lock is not held"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"pid": os.getpid(), "since": now, "run": self._last_run}).encode()
        os.pwrite(self._descriptor, line, 0)
        os.ftruncate(self._descriptor, len(line))
        os.fsync(self._descriptor)


def _address(host: str) -> str:
    """The same arm under its name and its address is one arm; a name that cannot be resolved stands for itself."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host


def _read(descriptor: int) -> dict[str, Any]:
    """What the file says; nothing when it is empty. Behind it may be the end of a longer line, of a holder that died
    while writing."""
    try:
        return dict(json.JSONDecoder().raw_decode(os.pread(descriptor, 65536, 0).decode())[0])
    except ValueError:
        return {}
