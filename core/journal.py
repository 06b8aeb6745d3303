"""What the arm was told, on disk before it is told: a motion that has begun is never sent again.

The journal of a run is one SQLite file (synchronous=EXTRA: a commit is on the disk when it returns), so `kill -9` or a
power cut at any moment leaves it readable. One row a motion; the rule is in one place, `MotionJournal.begin`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError, StageFailure

MOTIONS_FILE = "motions.sqlite"  # in the run folder
_BUSY_S = 10.0
_COLUMNS = "sequence, step, begun, goal, start, ended, result"
_TABLE = """CREATE TABLE IF NOT EXISTS motions (
    sequence INTEGER PRIMARY KEY,
    step TEXT NOT NULL UNIQUE,
    begun TEXT NOT NULL,
    goal TEXT NOT NULL,
    start TEXT NOT NULL,
    ended TEXT,
    result TEXT
)"""


@dataclass(frozen=True)
class Motion:
    """One row. step: its name, unique in the run. begun, ended: ISO 8601 UTC; ended None = it was cut off, or is under
    way. goal, start, result: JSON objects of whoever moves the arm."""

    sequence: int
    step: str
    begun: str
    goal: dict[str, Any]
    start: dict[str, Any]
    ended: str | None
    result: dict[str, Any] | None


class MotionJournal:
    """The motions of one run, in order. Several processes may read while one writes.

    Raises:
        AffordAgentError: the file cannot be opened or is no journal.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._db = _open(str(file))

    @classmethod
    def in_memory(cls) -> MotionJournal:
        """A journal that is gone with the process, for motions that nobody will resume."""
        return cls(Path(":memory:"))

    def __enter__(self) -> MotionJournal:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def begin(self, step: str, goal: dict[str, Any], start: dict[str, Any]) -> None:
        """Write down that `step` is about to be sent. When this returns, it may be sent: this once.

        Raises:
            StageFailure: ("execute", "execution.interrupted"): this step has begun before, or another is still open.
                Nothing may be sent then.
        """
        with self._transaction():
            for motion in self.motions():
                if motion.step == step or motion.ended is None:
                    raise StageFailure(
                        "execute",
                        "execution.interrupted",
                        f"{motion.step} was begun at {motion.begun} and {_end_of(motion)}; {step} is not sent: no "
                        "motion is sent twice, and none after one that was cut off",
                        step=motion.step,
                        begun=motion.begun,
                    )
            row = (step, _now(), json.dumps(goal), json.dumps(start))
            self._db.execute("INSERT INTO motions (step, begun, goal, start) VALUES (?, ?, ?, ?)", row)

    def end(self, step: str, result: dict[str, Any]) -> None:
        """Write down what came of the open motion `step`.

        Raises:
            ValueError: `step` is not under way.
        """
        with self._transaction():
            done = self._db.execute(
                "UPDATE motions SET ended = ?, result = ? WHERE step = ? AND ended IS NULL",
                (_now(), json.dumps(result), step),
            )
            if done.rowcount != 1:
                raise ValueError(f"{self.file}: {step} is not under way, so it cannot end")

    def motions(self) -> list[Motion]:
        """All rows, oldest first."""
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM motions ORDER BY sequence")
        return [
            Motion(sequence, step, begun, json.loads(goal), json.loads(start), ended, json.loads(result or "null"))
            for sequence, step, begun, goal, start, ended, result in rows
        ]

    def find(self, step: str) -> Motion | None:
        return next((m for m in self.motions() if m.step == step), None)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """The lock is taken before reading, so that two processes cannot both find a step unsent."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:  # commits, or rolls back when anything is raised
            yield


def read_motions(file: Path) -> list[Motion]:
    """The rows of a journal; none where there is no file.

    Raises:
        AffordAgentError: the file is no journal.
    """
    if not file.is_file():
        return []
    with MotionJournal(file) as journal:
        return journal.motions()


def _open(file: str) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)
        db.execute("PRAGMA synchronous=EXTRA")  # FULL, and the folder's entry too
        db.execute(_TABLE)
    except sqlite3.Error as error:
        raise AffordAgentError(f"cannot open the journal of motions {file}: {error}") from error
    return db


def _end_of(motion: Motion) -> str:
    return "was cut off" if motion.ended is None else f"ended at {motion.ended}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
