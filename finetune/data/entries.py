"""What a reader of a published set yields: rows, and what is wrong where there could be no row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.schema import Sample


@dataclass(frozen=True)
class Entry:
    """where: its place, the file or set first, e.g. "openx_train.pkl, row 7". Either a sample with absolute paths, or a
    problem in words."""

    where: str
    sample: Sample | None
    problem: str = ""


@dataclass(frozen=True)
class DataSet:
    """A published set. name: as on the command line; needs: file or folder below the root (or its lisa_data) without
    which it is not there; read: (root, seed of the drawn questions) -> entries, one by one, opening no picture
    unless it says so."""

    name: str
    needs: str
    read: Callable[[Path, int], Iterator[Entry]]

    def is_in(self, root: Path) -> bool:
        return (root / self.needs).exists() or (root / "lisa_data" / self.needs).exists()


def samples_of(entries: Iterable[Entry]) -> Iterator[Sample]:
    """The samples alone.

    Raises:
        AffordAgentError: at the first entry that has none.
    """
    for entry in entries:
        if entry.sample is None:
            raise AffordAgentError(
                f"{entry.where}: {entry.problem}; `affordagent data check --root DIR` lists all such"
            )
        yield entry.sample


def missing_words(record: Any, keys: tuple[str, ...]) -> str:
    """What is wrong with a record that should be a dict with a text under each of `keys`; "" when all is well."""
    if not isinstance(record, dict):
        return f"is a {type(record).__name__}, not a dict"
    for key in keys:
        if not isinstance(record.get(key), str) or not record[key].strip():
            return f"no text under '{key}'"
    return ""
