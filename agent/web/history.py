"""The runs in a folder: a line for each, and why one did not end well."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import degrees
from pathlib import Path
from typing import Any

from affordagent.agent.results import RESULT_FILE
from affordagent.core.errors import AffordAgentError
from affordagent.core.failure_guide import guides
from affordagent.core.run_store import EVENTS_FILE, UNREADABLE, RunStore

MARKS = (EVENTS_FILE, RESULT_FILE, "query.json", "frame_camera.json")  # a folder with one of them is a run's
STAMPED = re.compile(r"\d{8}-\d{6}-\d+-.+")  # as `agent.session.run_folder` names one
UNFINISHED, BROKEN = "unfinished", "broken"
MOST_FACTS, MOST_LISTED, LONGEST = 12, 4, 300  # of an explanation: lines, items of a list, characters of a line
UNITS = {"_m_s": (1e3, "mm/s"), "_rad": (degrees(1), "degrees"), "_cm2": (1, "cm2"), "_m": (1e3, "mm"), "_s": (1, "s")}
UNITS |= {"_n": (1, "N"), "_fraction": (100, "%"), "_share": (100, "%")}


@dataclass(frozen=True)
class RunLine:
    """A run in a list. when: UTC, of its start. outcome: as in `core.types.OUTCOMES`, "unfinished" while it is under
    way or after its process was killed, "broken" where the folder cannot be read. code: of its failure. seconds: from
    start to end, waiting for answers included; None where it has not ended."""

    name: str
    when: datetime
    command: str
    outcome: str
    code: str | None
    seconds: float | None


def runs_of(root: Path, limit: int = 50) -> list[RunLine]:
    """The runs directly in `root`, newest first, at most `limit`. Damaged ones are listed as such."""
    lines = [line_of(folder) for folder in _folders(root)]
    return sorted(lines, key=lambda line: (line.when, line.name), reverse=True)[:limit]


def run_named(root: Path, name: str) -> Path:
    """The folder of a run that `runs_of` would list.

    Raises:
        AffordAgentError: there is none of that name, or the name leads elsewhere.
    """
    folder = next((folder for folder in _folders(root) if folder.name == name), None)
    if folder is None:
        raise AffordAgentError(f"there is no run {name[:100]!r} in {root.name}: reload the list")
    return folder


def line_of(run: Path) -> RunLine:
    """What the list says of a run's folder."""
    try:
        return _line(run)
    except UNREADABLE:
        when = datetime.fromtimestamp(run.stat().st_mtime, UTC)
        return RunLine(run.name, when, "", BROKEN, None, None)


def _line(run: Path) -> RunLine:
    events = RunStore(run).events()
    start, last = events[0], events[-1]
    if start["event"] != "start":
        raise ValueError("the first event is no start")
    when, command = datetime.fromisoformat(start["time"]), str(start["command"])
    if not (run / RESULT_FILE).is_file():
        return RunLine(run.name, when, command, UNFINISHED, None, None)
    result = json.loads((run / RESULT_FILE).read_text())
    code = result["failure"]["code"] if result["failure"] else None
    seconds = (datetime.fromisoformat(last["time"]) - when).total_seconds()
    return RunLine(run.name, when, command, str(result["outcome"]), code, seconds)


def _folders(root: Path) -> Iterator[Path]:
    """The run folders in `root`; what a link leads to elsewhere is none of them."""
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.name.startswith(".") or folder.is_symlink() or not folder.is_dir():
            continue
        if STAMPED.fullmatch(folder.name) or any((folder / mark).is_file() for mark in MARKS):
            yield folder


@dataclass(frozen=True)
class Explanation:
    """Why a run did not end well. message: what the stage said. evidence: what it went by, a line each. meaning, mends:
    of the failure guide. All of it may hold words of a person or a model: plain text, never markup."""

    stage: str
    code: str
    message: str
    evidence: list[str]
    meaning: str
    mends: list[str]


def explanation(run: Path) -> Explanation | None:
    """Why the run ended as it did; None where it went well, has not ended, or cannot be read."""
    try:
        failure = json.loads((run / RESULT_FILE).read_text())["failure"]
        if not failure:
            return None
        stages = [e for e in RunStore(run).events() if e["event"] == "stage" and e["stage"] == failure["stage"]]
        evidence = stages[-1]["evidence"] if stages else {}
        known = guides().get(failure["code"])  # a run of another release may have ended with another code
        meaning, mends = ("", []) if known is None else (known.meaning, list(known.mends))
        return Explanation(failure["stage"], failure["code"], failure["message"], in_words(evidence), meaning, mends)
    except UNREADABLE:
        return None


def in_words(evidence: dict[str, Any]) -> list[str]:
    """The facts of a record for a person, a line each: lengths in millimetres, angles in degrees, shares in percent."""
    facts = {name: value for name, value in evidence.items() if not name.startswith("raw_")}
    lines = [f"{_title(name)}: {said}" for name, value in facts.items() if (said := _said(name, value))]
    return [line if len(line) <= LONGEST else f"{line[:LONGEST]} ..." for line in lines[:MOST_FACTS]]


def _title(name: str) -> str:
    unit = next((unit for unit in UNITS if name.endswith(unit)), "")
    kept = name if unit in ("_fraction", "_share") else name.removesuffix(unit)
    return kept.replace("_", " ").strip() or name


def _said(name: str, value: Any) -> str:
    """One value; empty for what says nothing to a person."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        factor, unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), (1, ""))
        number = f"{factor * value:.3g}" if isinstance(value, float) else f"{factor * value:g}"
        return f"{number} {unit}".strip()
    if isinstance(value, dict):
        return _dict_said(value)
    if isinstance(value, list):
        numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in value)
        said = [text for item in value if (text := _said(name, item))]
        kept = said if numbers else said[:MOST_LISTED]
        more = f"; {len(said) - len(kept)} more" if len(said) > len(kept) else ""
        return (", " if numbers else "; ").join(kept) + more
    return "" if value is None else str(value)


def _dict_said(value: dict[str, Any]) -> str:
    """In its own words where it has some; of the checks of a mask those that failed."""
    if value.get("passed") is True:
        return ""
    own = value.get("says") or value.get("label")
    return str(own) if own else ", ".join(f"{_title(k)} {said}" for k, v in value.items() if (said := _said(k, v)))
