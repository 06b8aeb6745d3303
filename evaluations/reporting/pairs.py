"""One setting against another, one way of saying it against another, on trials that share all else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

from affordagent.evaluations.reporting.success import Figures, success_rate
from affordagent.evaluations.runner.records import Row
from affordagent.evaluations.statistics import holm, mcnemar

NAMED_PAIRS = 200  # discordant pairs named of each kind; the count is of all


def paired(rows: Sequence[Row], name: Literal["setting", "style"]) -> list[Figures]:
    """Every two settings, or styles, on the trials that differ in nothing else: McNemar's exact test, the pairs that
    differ.

    Trials of two settings share the command, those of two styles its group, and both scene, seed, repeat and fault.
    p_holm: adjusted for all comparisons of this list. first_success, second_success: on the pairs alone. unpaired:
    trials of the two that are in no pair: the other one lacks their like, or has it more than once.
    """
    levels = list(dict.fromkeys(row[name] for row in rows if row[name]))
    found: dict[str, dict[tuple[Any, ...], list[Row]]] = {level: defaultdict(list) for level in levels}
    for row in rows:
        if row[name]:
            found[row[name]][_situation(row, name)].append(row)
    tests = [_compare(a, found[a], b, found[b]) for a, b in combinations(found, 2)]
    tests = [test for test in tests if name == "setting" or test["pairs"]]
    for test, p in zip(tests, holm([test["mcnemar_p"] for test in tests]), strict=True):
        test["p_holm"] = float(p)
    return tests


def _situation(row: Row, name: Literal["setting", "style"]) -> tuple[Any, ...]:
    fault = row["fault"]
    injected = (None, None, None) if fault is None else (fault["cause"], fault["name"], fault["size"])
    said = (row["command_id"],) if name == "setting" else (row["group"], row["setting"])
    return row["suite"], row["scene"], row["seed"], row["repeat"], *said, *injected


Situations = Mapping[tuple[Any, ...], list[Row]]


def _compare(first: str, ours: Situations, second: str, theirs: Situations) -> Figures:
    shared = [(ours[key], theirs[key]) for key in ours if key in theirs]
    pairs = [(a[0], b[0]) for a, b in shared if len(a) == len(b) == 1]
    only_first = [pair for pair in pairs if pair[0]["success"] and not pair[1]["success"]]
    only_second = [pair for pair in pairs if pair[1]["success"] and not pair[0]["success"]]
    trials = sum(len(found) for found in (*ours.values(), *theirs.values()))
    return {
        "first": first,
        "second": second,
        "pairs": len(pairs),
        "unpaired": trials - 2 * len(pairs),
        "first_success": success_rate(a for a, _ in pairs),
        "second_success": success_rate(b for _, b in pairs),
        "only_first": len(only_first),
        "only_second": len(only_second),
        "mcnemar_p": mcnemar(len(only_first), len(only_second)),
        "discordant": {"only_first": _named(only_first), "only_second": _named(only_second)},
    }


def _named(pairs: Sequence[tuple[Row, Row]]) -> list[Figures]:
    """Both keys, what was said, and the code of the one that failed."""
    return [
        {
            "first": a["key"],
            "second": b["key"],
            "text": a["text"],
            "code": (b if a["success"] else a)["failure_code"],
        }
        for a, b in pairs[:NAMED_PAIRS]
    ]
