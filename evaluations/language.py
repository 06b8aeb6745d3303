"""How well commands are understood offline.

    python -m affordagent.evaluations.language FILE.json [--out DIR]

FILE holds either `commands` (what is meant: accepted categories, or nothing to grasp) or `questions` (which of five
things serves a verb). Rates come with Wilson 95 % intervals. The texts are few and by few authors: read them as such.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from affordagent.agent.language.rank import rank
from affordagent.agent.language.understand import understand
from affordagent.core.catalogue import catalogue
from affordagent.core.errors import Refused
from affordagent.core.run_store import write_json
from affordagent.core.types import FunctionalQuery
from affordagent.evaluations.statistics import rate

FIELDS = ("intent", "object_words", "part", "attributes", "constraints", "clarify", "ignored")


def main() -> None:
    parser = argparse.ArgumentParser(description="Score the offline language on a file of commands or questions.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, help="folder for language.json")
    args = parser.parse_args()
    data = json.loads(args.file.read_text(encoding="utf-8"))
    report = score_commands(data["commands"]) if "commands" in data else score_questions(data["questions"])
    for name, value in report["rates"].items():
        low, high = value["wilson95"]
        print(f"{name:32s} {value['k']:3d}/{value['n']:<3d} {value['rate']:.3f}  [{low:.2f}, {high:.2f}]")
    for miss in report["misses"]:
        print(f"  missed {miss}")
    print(f"CPU seconds a command: {report['cpu_s_per_command']:.3f}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        write_json(args.out / "language.json", report)


def score_commands(commands: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates by kind of command: named, functional (top 1 and top 3), open, abstain, refused, and by stated detail.

    A command: text, accept (categories; a generic word stands for all it may mean), hard; optionally kind, intent,
    object_words, part, attributes, constraints, clarify, ignored.
    """
    understand("warm up")
    counts: dict[str, list[bool]] = defaultdict(list)
    misses = []
    started = time.process_time()
    for command in commands:
        kind = command.get("kind") or _kind(command)
        try:
            query: FunctionalQuery | None = understand(command["text"])
        except Refused:
            query = None
        right = _is_right(command, kind, query)
        counts[kind].append(right)
        if kind == "functional":
            counts["functional top 3"].append(_in_top(command, query, 3))
        for field in FIELDS:
            if field in command and query is not None:
                counts[f"  {field}"].append(_has_detail(command, field, query))
                if not counts[f"  {field}"][-1]:
                    misses.append(f"{field} {command[field]!r} of {command['text']!r}")
        if not right:
            answer = "refused" if query is None else f"{query.intent}, {query.category or query.object_words}"
            misses.append(f"{command['text']!r}: {answer}")
    spent = time.process_time() - started
    return {
        "rates": {name: rate(sum(values), len(values)) for name, values in counts.items()},
        "misses": misses,
        "cpu_s_per_command": spent / len(commands),
    }


def score_questions(questions: list[dict[str, Any]]) -> dict[str, Any]:
    """Top 1 of `rank` among each question's candidates, over all and by verb."""
    counts: dict[str, list[bool]] = defaultdict(list)
    misses = []
    started = time.process_time()
    for question in questions:
        best = rank(question["command"], question["candidates"])[0][0]
        right = best == question["answer"]
        counts["all"].append(right)
        counts[f"  {question['verb']}"].append(right)
        if not right:
            misses.append(f"{question['verb']}: {best}, not {question['answer']}")
    spent = time.process_time() - started
    return {
        "rates": {name: rate(sum(values), len(values)) for name, values in counts.items()},
        "misses": misses,
        "cpu_s_per_command": spent / len(questions),
    }


def _kind(command: dict[str, Any]) -> str:
    if not command["accept"]:
        return "abstain"
    return "functional" if command["hard"] else "named"


def _accepted(command: dict[str, Any]) -> set[str]:
    """The accepted categories, generic words ("pliers") written out."""
    accept = set(command["accept"])
    return accept | {c.name for c in catalogue().values() if accept & c.generic.keys()}


def _is_right(command: dict[str, Any], kind: str, query: FunctionalQuery | None) -> bool:
    if kind == "refused":
        return query is None
    if query is None:
        return False
    if kind == "abstain":
        return not query.wants_motion or query.needs_clarification
    if query.needs_clarification or not query.wants_motion:
        return False
    if kind == "open":
        return query.category is None and query.object_words == command["object_words"]
    return query.category in _accepted(command)


def _in_top(command: dict[str, Any], query: FunctionalQuery | None, count: int) -> bool:
    return query is not None and any(c.name in _accepted(command) for c in query.candidates[:count])


def _has_detail(command: dict[str, Any], field: str, query: FunctionalQuery) -> bool:
    if field == "clarify":
        return query.needs_clarification and bool(query.question)
    if field == "ignored":
        return any(c.startswith("ignored: ") for c in query.constraints)
    wanted, got = command[field], getattr(query, field)
    if field == "attributes":
        return wanted.items() <= got.items()
    return set(wanted) <= set(got) if field == "constraints" else wanted == got


if __name__ == "__main__":
    main()
