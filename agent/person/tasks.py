"""The rows that a person is asked about, what is least certain first."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.rle import looks_like_rle
from affordagent.finetune.data.schema import AFFORDANCE, Sample
from affordagent.finetune.data.selecting import SURE, TRUSTED, urgency_of
from affordagent.finetune.data.table import read_samples


@dataclass(frozen=True)
class Task:
    """One mask to make; rows that differ in their text alone share it. key: of the row, the same wherever the folder
    lies. why: why a person is asked, in words."""

    key: str
    row: Sample
    why: str


def rows_file(place: Path) -> Path:
    """The rows of a folder that `data annotate` wrote, or the file itself."""
    return place / "rows.parquet" if place.is_dir() else place


def key_of(row: Sample, folder: Path) -> str:
    """24 hex digits. folder: the one that the rows' file lies in."""
    mask = (row.mask, row.mask_label, row.mask_rle) if row.box is None else None
    seen = [os.path.relpath(row.image, folder), row.category, row.part, row.box, mask]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:24]


def tasks_of(place: Path, everything: bool = False, disputed: Set[str] = frozenset()) -> list[Task]:
    """In the order in which they are shown: those on which others disagree, those without a mask, those that a tool
    was not sure of, each from the least certain on; with `everything` all others too.

    Raises:
        AffordAgentError: no such rows, or none that a person is needed for.
    """
    file = rows_file(place)
    folder = Path(os.path.abspath(file.parent))
    asked: dict[str, Task] = {}
    for row in read_samples(file, unlabelled=True):
        key = key_of(row, folder)
        if row.kind in AFFORDANCE and key not in asked:
            asked[key] = Task(key, row, _why(row, key in disputed))
    ranked = sorted(asked.values(), key=lambda task: _rank(task, disputed))  # stable: else as in the file
    shown = [task for task in ranked if everything or task.why]
    if not shown:
        raise AffordAgentError(f"{file} has no row that waits for a person; --all shows the others for a second look")
    return shown


def start_of(row: Sample) -> str | None:
    """The best of the refused masks, as run lengths in JSON."""
    checks = json.loads(row.checks) if row.checks else {}
    refused = checks.get("refused_rle") if isinstance(checks, dict) else None
    return refused if isinstance(refused, str) and looks_like_rle(refused) else None


def _rank(task: Task, disputed: Set[str]) -> tuple[int, float]:
    row = task.row
    group = 0 if task.key in disputed else 1 if row.status == "unlabelled" else 2 if task.why else 3
    return group, row.confidence if row.confidence is not None else 0.5


def _why(row: Sample, disputed: bool) -> str:
    """ "" where no person is needed."""
    if disputed:
        return "others do not agree on it"
    if row.status == "unlabelled":
        return "no tool's mask passed its checks" if row.tool_reason else "no tool has answered yet"
    doubted = row.tool is not None and row.tool not in TRUSTED and row.confidence is not None and row.confidence < SURE
    return urgency_of(row)[1] if doubted else ""
