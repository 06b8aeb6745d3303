"""What a set of commands holds, in one JSON object."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from affordagent.evaluations.commands.agreement import Label, agreement, diversity, diversity_by_group
from affordagent.evaluations.commands.command import Command
from affordagent.evaluations.commands.distance import style_distances
from affordagent.evaluations.statistics import rate


def stats(commands: Sequence[Command], labels: Sequence[Label] = ()) -> dict[str, Any]:
    """commands, groups, writers, by_expected, by_language, by_style, words (median, of the longest), distance (from the
    training style: median, outside; over English texts), diversity (over English texts, and the mean over groups),
    agreement where there are labels."""
    english = [command for command in commands if command.language.split("-")[0] == "en"]
    distances = style_distances([command.text for command in english])
    words = [len(command.text.split()) for command in commands]
    groups = list(diversity_by_group(english).values())
    found: dict[str, Any] = {
        "commands": len(commands),
        "groups": len({command.group for command in commands}),
        "writers": len({command.writer for command in commands if command.writer}),
        "by_expected": dict(Counter(command.expected for command in commands)),
        "by_language": dict(Counter(command.language for command in commands)),
        "by_style": dict(Counter(command.style for command in commands)),
        "words": {"median": float(np.median(words)), "longest": max(words)} if words else None,
    }
    if english:
        found["distance"] = {
            "meaning": float(np.median([d.meaning for d in distances])),
            "form": float(np.median([d.form for d in distances])),
            "combined": float(np.median([d.combined for d in distances])),
            "outside": rate(sum(d.outside for d in distances), len(distances)),
        }
        found["diversity"] = asdict(diversity([command.text for command in english]))
    if groups:
        names = ("distinct_1", "distinct_2", "similarity")
        found["diversity_in_groups"] = {n: float(np.nanmean([getattr(g, n) for g in groups])) for n in names}
    if labels:
        found["agreement"] = asdict(agreement(labels, commands))
    return _without_nan(found)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: None instead."""
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def as_text(found: dict[str, Any]) -> str:
    """The same for a person, a line a fact."""
    width = max(20, *map(len, found))
    return "\n".join(f"{name:<{width}} {_said(value)}" for name, value in found.items())


def _said(value: Any) -> str:
    if isinstance(value, dict) and "wilson95" in value:
        low, high = value["wilson95"]
        return f"{value['k']}/{value['n']} = {value['rate']:.2f} [{low:.2f}, {high:.2f}]"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_said, value)) + "]"
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
