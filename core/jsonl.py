"""Files of JSON lines that a kill cannot spoil: a line is there whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError


def append_line(path: Path, value: Any) -> None:
    """Add one line and wait until the disk has it. Half a line at the file's end, left by a kill, is cut off first.

    One process writes a file at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.truncate(_whole_bytes(file.seek(0, os.SEEK_END), path))
        file.write(json.dumps(value).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Any]:
    """All values, [] without a file. Half a line at the end is left out.

    Raises:
        AffordAgentError: a line before the end is no JSON.
    """
    if not path.is_file():
        return []
    content = path.read_bytes()
    values = []
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            raise AffordAgentError(
                f"{path}, line {number} is not JSON ({error}): delete the line, and what it held is done again"
            ) from error
    return values


def _whole_bytes(size: int, path: Path) -> int:
    """Bytes up to the last line's end."""
    block, end = 1 << 16, size
    with path.open("rb") as file:
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0
