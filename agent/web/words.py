"""The page's parts as HTML. Whatever comes from a person, a model or a file is escaped here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from affordagent.agent.settings import Settings
from affordagent.agent.web.history import RunLine, explanation, line_of
from affordagent.agent.web.hub import Entry, Now
from affordagent.agent.web.text import shown
from affordagent.core.run_store import RunStore

ENTRIES = 400  # of the log that a page shows
# Gradio reads the HTML that it is given as a template once more: its signs are entities too
_SIGNS = str.maketrans({sign: f"&#{ord(sign)};" for sign in "{}$`\\"})


def chat(entries: list[Entry]) -> str:
    """The talk so far: what was said, and the stages of each run, with the one under way last."""
    return _part("chat", chat_items(entries[-ENTRIES:]), False)


def chat_items(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """What the talk shows: {"kind", "text", "choices"} for words, {"kind": "steps", "run", "lines", "outcome"} for the
    stages of a run; a line is {"stage", "status", "text"}, its status "now" while it is under way."""
    items: list[dict[str, Any]] = []
    for entry in entries:
        if items and items[-1].get("run") == "":  # the turn has been read
            items.pop()
        if entry.kind in ("stage", "record", "run"):
            _step(items, entry)
        else:
            kinds = {"confirm": "ask", "answer": "note", "command": "note", "end": "stop"}
            choices = [shown(str(choice["label"]), 80) for choice in entry.data.get("choices", [])]
            items.append({"kind": kinds.get(entry.kind, entry.kind), "text": entry.text, "choices": choices})
    return items


def _step(items: list[dict[str, Any]], entry: Entry) -> None:
    """Stages stand where they began; what came of one stands there too, whatever was said since."""
    ours = [item for item in items if item.get("run") == (entry.run or "")]
    under_way = [line for item in ours for line in item["lines"] if line["status"] == "now"]
    if entry.kind == "stage" and entry.text in [line["stage"] for line in under_way]:
        return  # a stage that was interrupted by a question begins anew
    if entry.kind == "stage":
        if not ours or ours[-1] is not items[-1]:
            items.append({"kind": "steps", "run": entry.run or "", "lines": [], "outcome": None})
        items[-1]["lines"].append({"stage": entry.text, "status": "now", "text": ""})
    elif entry.kind == "record" and under_way:
        under_way[-1] |= {"stage": entry.data["stage"], "status": entry.data["status"], "text": entry.text}
    elif entry.kind == "run" and ours:
        ours[-1]["outcome"] = entry.text


def status(cell: str, now: Now, seat: str) -> str:
    """What the robot is at, and who commands."""
    state, words = work(now)
    who = (
        "you command"
        if now.commander == seat
        else "nobody commands"
        if now.commander is None
        else "somebody else commands"
    )
    others = f", {now.watching} browsers are here" if now.watching > 1 else ""
    return _part("status", cell, state, words, f"{who}{others}")


def work(now: Now) -> tuple[str, str]:
    """What the robot is at: a word for its colour, and words."""
    if now.state == "ended":
        return "ended", "ended because of an error"
    if now.question is not None:
        return "asks", "asks before it moves"
    return (now.state, f"at work: {now.stage}") if now.state == "busy" else ("idle", "ready")


def why(run: Path) -> str:
    """Why a run did not end well; empty where it did, or asks something."""
    return "" if line_of(run).outcome == "needs_clarification" else _part("why", explanation(run))


def run(folder: Path, line: RunLine) -> str:
    """What came of a run: its stages and, where it failed, why."""
    events = [event for event in RunStore(folder).events() if event.get("event") == "stage"]
    stages = [
        {
            "stage": shown(str(e.get("stage")), 40),
            "status": str(e.get("status")),
            "text": shown(str(e.get("message"))),
            "spent": f"{float(e.get('duration_s') or 0):.2f} s",
        }
        for e in events
    ]
    return _part("run", line, stages, explanation(folder))


def settings(given: Settings) -> str:
    """All settings, the limits first."""
    plain = given.model_dump(mode="json")
    groups = [("Limits", _rows(plain.pop("limits")))]
    nested = {name: plain.pop(name) for name in list(plain) if isinstance(plain[name], dict)}
    groups.append(("General", _rows(plain)))
    return _part("settings", groups + [(name, _rows(values)) for name, values in nested.items()])


def _rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, "-" if value in (None, "", [], {}) else str(value)) for name, value in values.items()]


def _part(name: str, *given: Any) -> str:
    return str(getattr(_parts(), name)(*given))


@cache
def _parts() -> Any:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=escaped)
    return environment.from_string(resources.files("affordagent.agent").joinpath("web/page.html").read_text()).module


def escaped(value: Any) -> Markup:
    """Any value as text that a page shows and does nothing else with."""
    return value if isinstance(value, Markup) else Markup(str(escape(shown(str(value), 4000))).translate(_SIGNS))
