"""The rows of an evaluation folder: appended as trials end, read with their attributions, kept as one Parquet table."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from affordagent.core.errors import AffordAgentError
from affordagent.core.jsonl import append_line, read_lines
from affordagent.evaluations.runner.records import ATTRIBUTIONS, TABLE, TRIALS, Row

_PLAIN = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def append_row(folder: Path, row: Row) -> None:
    """Add a trial that has ended; it is on the disk when this returns."""
    append_line(folder / TRIALS, row)


def read_rows(folder: Path) -> list[Row]:
    """All rows in the order of their ends, each with its attribution where there is one. A line that a kill left half
    written is left out.

    Raises:
        AffordAgentError: there are no trials in `folder`, or a line is broken.
    """
    if not (folder / TRIALS).is_file():
        raise AffordAgentError(f"no evaluation in {folder}: there is no {TRIALS}; `affordagent eval SUITE` makes one")
    attributions = {a["key"]: a for a in read_lines(folder / ATTRIBUTIONS)}
    rows: list[Row] = read_lines(folder / TRIALS)
    for row in rows:
        found = attributions.get(row["key"])
        row["attribution"] = None if found is None else {k: v for k, v in found.items() if k != "key"}
    return rows


def write_table(folder: Path) -> Path:
    """trials.parquet from the lines: a row a trial, nested fields as JSON text. Replaced whole."""
    rows = cast("list[dict[str, Any]]", read_rows(folder))
    types = _types(rows)
    columns = {name: pa.array([_cell(row.get(name), kind) for row in rows], kind) for name, kind in types.items()}
    scratch = folder / f"{TABLE}.part"
    pq.write_table(pa.table(columns), scratch)
    os.replace(scratch, folder / TABLE)
    return folder / TABLE


def _types(rows: list[dict[str, Any]]) -> dict[str, pa.DataType]:
    """Column -> type: those of `Row` by its annotations, whatever the rows hold; further fields by their values."""
    types = {name: _type_of(hint) for name, hint in get_type_hints(Row).items()}
    further: dict[str, set[type]] = {}
    for row in rows:
        for name in row.keys() - types.keys():
            further.setdefault(name, set()).add(type(row[name]))
    for name, kinds in sorted(further.items()):
        kinds -= {type(None)}
        only = float if kinds == {int, float} else kinds.pop() if len(kinds) == 1 else str
        types[name] = _PLAIN.get(only, pa.string())
    return types


def _type_of(hint: Any) -> pa.DataType:
    """Of `str`, `float | None` and the like; everything else is JSON text."""
    options = [option for option in getattr(hint, "__args__", (hint,)) if option is not type(None)]
    return _PLAIN.get(options[0], pa.string()) if len(options) == 1 else pa.string()


def _cell(value: Any, kind: pa.DataType) -> Any:
    if value is None or isinstance(value, str) or not pa.types.is_string(kind):
        return value
    return json.dumps(value)
