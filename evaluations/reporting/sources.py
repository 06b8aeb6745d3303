"""What a report is made of: evaluation folders, or run folders that lie side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import EVENTS_FILE, RunStore
from affordagent.evaluations.causes.annotation import read_annotation
from affordagent.evaluations.causes.evidence import attribute_by_evidence
from affordagent.evaluations.runner.records import EVALUATION, RUNS, TABLE, TRIALS, Row
from affordagent.evaluations.runner.table import read_rows

RUN_FILE, STUDY = "run.json", "summary.json"
CONFIRMED = "confirmed by a person"
UNKNOWN: dict[str, Any] = {
    "suite": "",
    "setting": "as it is",
    "scene": "",
    "seed": 0,
    "repeat": 0,
    "noise": False,
    "command_id": "",
    "group": "",
    "text": "",
    "style": "",
    "writer": None,
    "language": "",
    "distance": None,
    "target": None,
    "category": None,
    "part": None,
    "seen": None,
    "expected": "grasp",
    "outcome": "",
    "sensed_success": None,
    "sensed_code": None,
    "failure_stage": None,
    "failure_code": None,
    "failure_message": None,
    "tool": None,
    "confidence": None,
    "fault": None,
    "checks": {},
    "measured": {},
    "cpu_s": {},
    "wall_s": 0.0,
    "run": "",
    "attribution": None,
}
"""Fields that a row may lack."""


@dataclass(frozen=True)
class Source:
    """One evaluation. header: what evaluation.json says, {} for run folders. planned: trials asked for.
    in_flight: begun and not ended. notes: what a reader must know."""

    name: str
    folder: Path
    header: dict[str, Any]
    rows: list[Row]
    planned: int
    in_flight: int = 0
    notes: list[str] = field(default_factory=list)

    def run_of(self, row: Row) -> Path | None:
        """The trial's run folder, None where there is none."""
        path = self.folder / row["run"]
        return path if row["run"] and path.is_dir() else None


def is_evaluation(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (TRIALS, TABLE))


def is_source(folder: Path) -> bool:
    """Whether `open_sources` can read it: an evaluation, or a folder of evaluations or of runs."""
    return is_evaluation(folder) or any(is_evaluation(child) or is_run(child) for child in _children(folder))


def is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (RUN_FILE, EVENTS_FILE))


def open_sources(folders: Sequence[Path]) -> list[Source]:
    """An evaluation a folder; those below it where it holds several; its runs where it holds run folders. Where there
    are several, keys and settings carry the evaluation's name, so that no two are alike.

    Raises:
        AffordAgentError: a folder holds nothing of this kind, or an evaluation without a trial that ended.
    """
    found: list[Source] = []
    for folder in folders:
        if is_evaluation(folder):
            found.append(_evaluation(folder))
        elif evaluations := [child for child in _children(folder) if is_evaluation(child)]:
            found += [_evaluation(child) for child in evaluations]
        elif runs := [child for child in _children(folder) if is_run(child)]:
            found.append(_runs(folder, runs))
        else:
            raise AffordAgentError(
                f"{folder} holds no evaluation ({TRIALS} or {TABLE}) and no run folders ({RUN_FILE}): give the folder "
                "that `affordagent eval SUITE --out` or `affordagent run` wrote"
            )
    if not any(source.rows for source in found):
        raise AffordAgentError(f"no trial has ended yet in {', '.join(str(s.folder) for s in found)}")
    return found if len(found) == 1 else [_named(source) for source in _distinct(found)]


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []


def _evaluation(folder: Path) -> Source:
    found: list[Any] = [*read_rows(folder)] if (folder / TRIALS).is_file() else _read_table(folder / TABLE)
    if found and "faults" in found[0]:
        return _study_of_faults(folder, found)
    header = json.loads((folder / EVALUATION).read_text()) if (folder / EVALUATION).is_file() else {}
    rows = [_complete(row, folder) for row in found]
    begun = {run.name for run in _children(folder / RUNS)} - {Path(row["run"]).name for row in rows}
    return Source(folder.resolve().name, folder, header, rows, max(header.get("trials", 0), len(rows)), len(begun))


def _read_table(path: Path) -> list[Any]:
    """Rows of trials.parquet; its nested fields are JSON text."""
    nested = ("fault", "checks", "measured", "cpu_s", "attribution")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return [row | {name: json.loads(row[name]) for name in nested if isinstance(row.get(name), str)} for row in rows]


def _complete(row: Any, folder: Path) -> Row:
    if missing := {"key", "success"} - row.keys():
        raise AffordAgentError(f"{folder}: a trial without {' and '.join(sorted(missing))}: {str(row)[:120]}")
    return cast(Row, UNKNOWN | row)


def _study_of_faults(folder: Path, found: list[Any]) -> Source:
    """What `causes.confusion` wrote: trials with one or two faults, attributed as they ran."""
    summary = json.loads((folder / STUDY).read_text()) if (folder / STUDY).is_file() else {}
    single = [row for row in found if len(row["faults"]) == 1]
    notes = ["Each trial carries a known fault: success and causes say what was injected, not how good the system is."]
    if len(single) < len(found):
        notes.append(f"{len(found) - len(single)} trials with two faults at once are left out.")
    header = {name: summary[name] for name in ("arguments", "versions") if name in summary}
    return Source(folder.resolve().name, folder, header, [_row_of_study(row) for row in single], len(single), 0, notes)


def _row_of_study(found: dict[str, Any]) -> Row:
    said = {name: found[name] for name in ("causal", "first_failing", "code", "shares")}
    return cast(
        Row,
        UNKNOWN
        | {name: found[name] for name in ("key", "scene", "seed", "noise")}
        | {
            "suite": "faults",
            "success": found["harmless"],
            "outcome": "success" if found["harmless"] else "failure",
            "failure_code": found["failure"],
            "fault": found["faults"][0],
            "cpu_s": {"attribution": found["cpu_s"]},
            "attribution": {**said, "by": "substitution", "luck": None, "ladder": {}, "evidence": {}},
        },
    )


def _runs(folder: Path, runs: list[Path]) -> Source:
    """Runs made by hand: success is what a person said afterwards, else each run's own verdict, as there is no gold;
    failures are attributed by rules over what their folders hold."""
    ended = [run for run in runs if (run / RUN_FILE).is_file()]
    rows = [_row_of_run(run) for run in ended]
    confirmed = sum(bool(row["checks"]) for row in rows)
    notes = [
        "These are runs without a known right answer: success is what a person said afterwards with `affordagent "
        f"annotate` ({confirmed} of {len(rows)}), else each run's own verdict."
    ]
    if planned := sum(row["outcome"] == "planned" for row in rows):
        notes.append(f"{planned} of them only planned, and nothing moved: they count as successes here.")
    if len(ended) < len(runs):
        notes.append(f"Not ended: {', '.join(run.name for run in runs if run not in ended)}.")
    return Source(folder.resolve().name, folder, {}, rows, len(runs), len(runs) - len(ended), notes)


def _row_of_run(run: Path) -> Row:
    record = json.loads((run / RUN_FILE).read_text())
    settings, failure = record["settings"], record["failure"] or {}
    query = record["query"] or {}
    stages = [event for event in RunStore(run).events() if event["event"] == "stage"]
    annotation = read_annotation(run)
    said = None if annotation is None or annotation.outcome is None else annotation.outcome == "success"
    itself = record["outcome"] in ("success", "planned")
    right = itself if said is None else said
    row: Any = {
        "key": run.name,
        "success": right,
        "attribution": None if right else asdict(attribute_by_evidence(run)),
        "sensed_success": None if said is None else itself,
        "checks": {} if said is None else {CONFIRMED: said},
        "scene": settings["scene"] if settings["cell"] == "sim" else settings["cell"],
        "seed": settings["seed"],
        "noise": settings["noise"],
        "command_id": record["command"],
        "text": record["command"],
        "category": query.get("category"),
        "part": query.get("part"),
        "outcome": record["outcome"],
        "failure_stage": failure.get("stage"),
        "failure_code": failure.get("code"),
        "failure_message": failure.get("message"),
        "cpu_s": {stage["stage"]: stage["cpu_s"] for stage in stages},
        "wall_s": round(sum(stage["duration_s"] for stage in stages), 3),
        "run": run.name,
    }
    return _complete(row, run)


def _distinct(sources: list[Source]) -> list[Source]:
    """Evaluations of one name are told apart by the folder above."""
    names = Counter(source.name for source in sources)
    return [
        source
        if names[source.name] == 1
        else replace(source, name=f"{source.folder.resolve().parent.name}/{source.name}")
        for source in sources
    ]


def _named(source: Source) -> Source:
    rows: list[Row] = [
        {**row, "key": f"{source.name}/{row['key']}", "setting": f"{source.name}: {row['setting']}"}
        for row in source.rows
    ]
    return replace(source, rows=rows)
