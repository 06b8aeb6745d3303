"""report.html and report.json of evaluations: one self-contained page, and the same figures for programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import write_json
from affordagent.evaluations.reporting.blame import blamed, code_of, ended_at, kind_of
from affordagent.evaluations.reporting.checks import fault_name
from affordagent.evaluations.reporting.figures import figures
from affordagent.evaluations.reporting.repeat import command_of
from affordagent.evaluations.reporting.sankey import BAR_WIDTH, sankey
from affordagent.evaluations.reporting.sources import Source, open_sources
from affordagent.evaluations.reporting.success import Figures
from affordagent.evaluations.reporting.worst import thumbnail, worst_cases
from affordagent.evaluations.runner.records import Row

PAGE, FIGURES = "report.html", "report.json"
RUN_REPORT = "report.html"


def write_evaluation_report(folders: Sequence[Path], out: Path | None = None) -> tuple[Path, Path]:
    """Write OUT/report.html and OUT/report.json and return their paths.

    Args:
        folders: of evaluations, or of runs; see `sources.open_sources`.
        out: default the folder itself.

    Raises:
        AffordAgentError: nothing to report, or several folders without `out`.
    """
    if out is None and len(folders) > 1:
        raise AffordAgentError("several folders: say with --out DIR where their report goes")
    sources = open_sources(folders)
    out = out or folders[0]
    rows = [row for source in sources for row in source.rows]
    result = figures(rows, sum(s.planned for s in sources), sum(s.in_flight for s in sources))
    result |= {
        "worst": [row["key"] for row in worst_cases(rows)],
        "evaluations": [{"name": s.name, "header": s.header, "trials": len(s.rows), "notes": s.notes} for s in sources],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / FIGURES, result)
    page = render(result, sources, out)
    path = out / PAGE
    scratch = path.with_name(f"{PAGE}.part")
    scratch.write_text(page, encoding="utf-8")
    os.replace(scratch, path)
    return path, out / FIGURES


def render(result: Figures, sources: Sequence[Source], out: Path) -> str:
    """The page, to lie in `out`; links to run folders are relative to it."""
    rows = {row["key"]: (source, row) for source in sources for row in source.rows}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "points": points, "command": command_of}
    files = resources.files("affordagent.evaluations.reporting")
    return environment.from_string(files.joinpath("report.html").read_text()).render(
        f=result,
        title=", ".join(source.name for source in sources),
        sources=sources,
        diagram=sankey(result["flow"]),
        bar_width=BAR_WIDTH,
        worst=[_case(*rows[key], out) for key in result["worst"]],
        slowest=[_case(*rows[key], out, picture=False) for key in result["times"]["slowest"]],
        table=trial_table([row for _, row in rows.values()], _bases(sources, out)),
        script=files.joinpath("report.js").read_text(),
    )


def percent(value: float | None) -> str:
    """A rate as a percentage; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def points(bounds: Sequence[float] | None) -> str:
    """An interval of rates in percent."""
    return "" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def _case(source: Source, row: Row, out: Path, picture: bool = True) -> Figures:
    run = source.run_of(row)
    return {
        "row": row,
        "ended": ended_at(row),
        "blamed": blamed(row),
        "code": code_of(row),
        "fault": fault_name(row),
        "why": _why(row),
        "picture": thumbnail(run) if picture and run is not None else None,
        "link": None if run is None else _link(run, out),
    }


def _why(row: Row) -> str:
    """The checks that failed, else what the run said."""
    failed = [name.replace("_", " ") for name, passed in row["checks"].items() if not passed]
    return f"failed: {', '.join(failed)}" if failed else row["failure_message"] or ""


def _link(run: Path, out: Path) -> str:
    """To the run's report, or to its folder where it has none."""
    target = run / RUN_REPORT
    relative = os.path.relpath(target if target.is_file() else run, out)
    return quote(relative) + ("" if target.is_file() else "/")


def _bases(sources: Sequence[Source], out: Path) -> dict[str, str]:
    """Key -> link of each trial's run folder, "" where it says none."""
    bases = {source.name: os.path.relpath(source.folder, out) for source in sources}
    return {
        row["key"]: quote(f"{bases[source.name]}/{row['run']}/") if row["run"] else ""
        for source in sources
        for row in source.rows
    }


def trial_table(rows: Sequence[Row], links: dict[str, str]) -> list[Figures]:
    """Columns of all trials for the page's script: {"title", "values"}, or {"title", "levels", "at"} where few values
    come often."""
    columns: dict[str, list[Any]] = {
        "trial": [row["key"] for row in rows],
        "setting": [row["setting"] for row in rows],
        "style": [row["style"] for row in rows],
        "scene": [f"{row['scene']} {row['seed']}" for row in rows],
        "thing": [row["category"] or "" for row in rows],
        "said": [row["text"] for row in rows],
        "result": ["success" if row["success"] else "failure" for row in rows],
        "ended": [ended_at(row) for row in rows],
        "code": ["" if row["success"] else code_of(row) for row in rows],
        "to blame": ["" if row["success"] else blamed(row) for row in rows],
        "kind": ["" if row["success"] else kind_of(row) or "" for row in rows],
        "fault": [fault_name(row) for row in rows],
        "sure": [row["confidence"] for row in rows],
        "seconds": [round(row["wall_s"], 1) for row in rows],
    }
    packed = [_packed(title, values) for title, values in columns.items() if any(v not in ("", None) for v in values)]
    return [*packed, _packed("link", [links[row["key"]] for row in rows])]


def _packed(title: str, values: list[Any]) -> Figures:
    if not all(isinstance(value, str) for value in values):
        return {"title": title, "values": values}
    levels = list(dict.fromkeys(values))
    if len(levels) > len(values) / 2:
        return {"title": title, "values": values}
    index = {level: i for i, level in enumerate(levels)}
    return {"title": title, "levels": levels, "at": [index[value] for value in values]}
