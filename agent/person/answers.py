"""What people said of rows: a file of lines for each of them, so that nothing is ever overwritten.

DIR/person-NAME.jsonl   {"row", "said", "mask": COCO run lengths or null, "by", "seconds", "time"}, one an answer
"""

from __future__ import annotations

import fcntl
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.jsonl import append_line, read_lines
from affordagent.core.types import Mask
from affordagent.finetune.data.rle import decode_rle, is_rle

Said = Literal["mask", "absent", "cannot say"]
NAME = re.compile(r"[A-Za-z0-9_]{1,40}")
FILE = re.compile(rf"person-({NAME.pattern})\.jsonl")


@dataclass(frozen=True)
class Answer:
    """Of one person to one row. row: `Task.key`. mask_rle: as `Sample.mask_rle`, of "mask" alone. seconds: at work on
    it. time: ISO 8601, UTC."""

    row: str
    said: Said
    mask_rle: str | None
    by: str
    seconds: float
    time: str

    def mask(self) -> Mask | None:
        """(H, W) bool; all False for "absent", which has no size of its own: (1, 1). None for "cannot say"."""
        if self.mask_rle is not None:
            height, width = json.loads(self.mask_rle)["size"]
            return decode_rle(self.mask_rle, (height, width), f"the answer of {self.by}")
        return np.zeros((1, 1), bool) if self.said == "absent" else None


def file_of(folder: Path, by: str) -> Path:
    """Raises:
    AffordAgentError: no name that a file may have.
    """
    if not NAME.fullmatch(by):
        raise AffordAgentError(f"--by {by[:60]!r}: a name has 1 to 40 letters of a-z, A-Z, 0-9 and _")
    return folder / f"person-{by}.jsonl"


def read_answers(folder: Path) -> dict[str, dict[str, Answer]]:
    """By person and row; a person's last answer to a row counts.

    Raises:
        AffordAgentError: a line is no answer.
    """
    names = {match[1]: path for path in sorted(folder.glob("person-*.jsonl")) if (match := FILE.fullmatch(path.name))}
    return {by: _read(path, by) for by, path in names.items()}


def _read(path: Path, by: str) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not _is_answer(line):
            raise AffordAgentError(f"{path}, line {number} is no answer of a person: delete the line, and ask again")
        mask = None if line["mask"] is None else json.dumps(line["mask"])
        found.pop(line["row"], None)  # so that the order is that of the last answers
        found[line["row"]] = Answer(line["row"], line["said"], mask, by, float(line["seconds"]), line["time"])
    return found


def _is_answer(line: Any) -> bool:
    if not isinstance(line, dict) or line.get("said") not in get_args(Said):
        return False
    texts = all(isinstance(line.get(name), str) for name in ("row", "time"))
    has_mask = is_rle(line.get("mask")) if line["said"] == "mask" else line.get("mask", "") is None
    return texts and has_mask and type(line.get("seconds")) in (int, float)


class AnswerFile:
    """The file of one person, open for this process alone.

    Raises:
        AffordAgentError: the name, or another process has the file.
    """

    def __init__(self, folder: Path, by: str) -> None:
        self.by, self.path = by, file_of(folder, by)
        self._lock = self.path.open("ab")  # held until the process ends, however it ends
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise AffordAgentError(
                f"{self.path} is open in another process: stop that, or choose another --by"
            ) from error
        self.answers = _read(self.path, by)

    def add(self, row: str, said: Said, mask_rle: str | None, seconds: float) -> Answer:
        """Keep an answer; when this returns, the disk has it."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        answer = Answer(row, said, mask_rle, self.by, round(seconds, 1), now)
        mask = None if mask_rle is None else json.loads(mask_rle)
        said_so = {"row": row, "said": said, "mask": mask, "by": self.by, "seconds": answer.seconds, "time": now}
        append_line(self.path, said_so)
        self.answers[row] = answer
        return answer

    def close(self) -> None:
        self._lock.close()
