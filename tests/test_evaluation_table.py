"""The table of an evaluation: what is written is read, torn lines do no harm, and DuckDB can read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affordagent.core.errors import AffordAgentError
from affordagent.core.jsonl import append_line, read_lines
from affordagent.evaluations.runner.records import ATTRIBUTIONS, TABLE, TRIALS
from affordagent.evaluations.runner.table import append_row, read_rows, write_table


def a_row(key: str, **changes: Any) -> Any:
    row = {
        "key": key, "suite": "styles", "setting": "default", "scene": "mixed", "seed": 3, "repeat": 0, "noise": False,
        "depth_sigma_m": None, "masks": "model", "thickness_m": 0.012,
        "command_id": key, "group": "g", "text": "pick up the mug", "style": "hard", "writer": None, "language": "en",
        "distance": None, "target": "mug_0", "category": "mug", "part": "handle", "seen": True, "expected": "grasp",
        "outcome": "failure", "success": False, "sensed_success": None, "sensed_code": None,
        "failure_stage": "verify", "failure_code": "execution.slip", "failure_message": "not done", "tool": "mini",
        "confidence": 0.9, "fault": None, "checks": {"slip": False}, "measured": {"slip_m": 0.01},
        "cpu_s": {"look": 0.5}, "wall_s": 3.0, "run": f"runs/{key}", "attribution": None,
    }  # fmt: skip
    return row | changes


def test_rows_come_back_with_their_attribution_and_without_the_torn_line(tmp_path: Path) -> None:
    append_row(tmp_path, a_row("a"))
    append_row(tmp_path, a_row("b"))
    append_line(tmp_path / ATTRIBUTIONS, {"key": "b", "causal": ["grasp"]})
    with (tmp_path / TRIALS).open("ab") as file:
        file.write(json.dumps(a_row("c")).encode()[:40])  # killed in the middle of the third
    assert [row["key"] for row in read_rows(tmp_path)] == ["a", "b"]
    assert [row["attribution"] for row in read_rows(tmp_path)] == [None, {"causal": ["grasp"]}]
    append_row(tmp_path, a_row("c"))
    assert [row["key"] for row in read_rows(tmp_path)] == ["a", "b", "c"]


@given(lines=st.lists(st.text(max_size=30), max_size=5), torn=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_anywhere_keeps_its_whole_lines(
    lines: list[str], torn: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "file.jsonl"
    for line in lines:
        append_line(path, line)
    content = path.read_bytes() if lines else b""
    kept = content[: max(0, len(content) - torn)]
    path.write_bytes(kept)
    append_line(path, "new")
    assert read_lines(path) == [*lines[: kept.count(b"\n")], "new"]


def test_a_line_broken_by_other_hands_is_named(tmp_path: Path) -> None:
    (tmp_path / TRIALS).write_text('{"key": "a"}\n{"key": \n{"key": "c"}\n')
    with pytest.raises(AffordAgentError, match=r"trials\.jsonl, line 2 is not JSON"):
        read_rows(tmp_path)
    with pytest.raises(AffordAgentError, match="no evaluation in"):
        read_rows(tmp_path / "elsewhere")


def test_the_parquet_file_has_a_column_a_field_whatever_the_rows_hold(tmp_path: Path) -> None:
    append_row(tmp_path, a_row("a", luck=1, note={"x": 1}))
    append_row(tmp_path, a_row("b", luck=0.5, writer="w1"))
    table = pq.read_table(write_table(tmp_path))
    rows = table.to_pylist()
    assert [row["writer"] for row in rows] == [None, "w1"]
    assert [row["luck"] for row in rows] == [1.0, 0.5]
    assert json.loads(rows[0]["checks"]) == {"slip": False}
    assert json.loads(rows[0]["note"]) == {"x": 1}
    assert str(table.schema.field("distance").type) == "double"  # though no row has one
    assert str(table.schema.field("fault").type) == "string"


def test_duckdb_reads_table_and_lines(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    append_row(tmp_path, a_row("a"))
    append_row(tmp_path, a_row("b", success=True, outcome="success"))
    write_table(tmp_path)
    for source in (f"'{tmp_path / TABLE}'", f"read_json('{tmp_path / TRIALS}')"):
        (found,) = duckdb.sql(f"select style, avg(success::int), count(*) from {source} group by style").fetchall()
        assert found == ("hard", 0.5, 2)
    query = f"select json_extract(measured, '$.slip_m')::double from '{tmp_path / TABLE}' where not success"
    assert duckdb.sql(query).fetchall() == [(0.01,)]
