"""Does a second opinion help more than it harms? Policies over the same answers of both grounding tools.

    affordagent eval fallback --out DIR --fit                                      # development scenes
    affordagent eval fallback --out DIR --faults --first-seed 1200 --phrases test  # a report

Both tools are asked everything once (`grounding_answers`); the policies then decide offline, by the functions that the
graph uses. A case ends right when the mask taken has an IoU of 0.5 or more with the true part, or when nothing is taken
where nothing is there. "helped" and "harmed" are the cases that asking turned to right, and to wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affordagent.agent.settings import Settings
from affordagent.core.overlap import overlap
from affordagent.core.types import PartMask
from affordagent.evaluations.fallback_fit import best
from affordagent.evaluations.grounding_answers import Case, Seen
from affordagent.evaluations.statistics import mcnemar, rate
from affordagent.tools.second_opinion import Opinion, decide, opinion_of

BINS = 5  # of the reliability table


@dataclass(frozen=True)
class Opinions:
    """What is held of both answers to a case."""

    case: Case
    first: Opinion | None
    second: Opinion | None


Policy = Callable[[Opinions, Settings], PartMask | None]


def scenes_from(seeds: range) -> list[tuple[str, int]]:
    """Each seed as `mixed` and as `novel`, every third as `twins`."""
    found = [(name, seed) for seed in seeds for name in ("mixed", "novel")]
    return found + [("twins", seed) for seed in seeds if (seed - seeds.start) % 3 == 0]


def never(both: Opinions, settings: Settings) -> PartMask | None:
    """The first tool alone, as far as the thing is there by its own word."""
    first = both.first
    return first.part if first is not None and first.presence >= settings.present_above else None


def always(both: Opinions, settings: Settings) -> PartMask | None:
    return decide(both.first, both.second, settings.sure_above, settings.present_above).part


def asked_when_in_doubt(both: Opinions, settings: Settings) -> PartMask | None:
    """As the graph does it."""
    if asks(both.first, settings):
        return always(both, settings)
    return None if both.first is None or both.first.doubts(settings.sure_above) else both.first.part


def asks(first: Opinion | None, settings: Settings) -> bool:
    """Is the second tool asked?"""
    if first is None:
        return True
    return bool(first.doubts(settings.sure_above)) and not first.surely_absent(settings.present_above)


def louder(both: Opinions, settings: Settings) -> PartMask | None:
    """The rule of the first release: below `sure_above` the higher of both tools' own confidences wins, unchecked."""
    parts = [opinion.part for opinion in (both.first, both.second) if opinion is not None]
    if both.first is not None and both.first.part.confidence >= settings.sure_above:
        return both.first.part
    if both.second is None or not parts:
        return None
    taken = max(parts, key=lambda part: part.confidence)
    return taken if taken.is_there >= settings.present_above else None


POLICIES: dict[str, Policy] = {
    "never": never,
    "always": always,
    "in doubt": asked_when_in_doubt,
    "louder wins": louder,
}


def opinions(seen: Iterable[Seen]) -> list[Opinions]:
    """All cases, checked and weighed."""
    found = []
    for view in seen:
        for case in view.cases:
            parts = [best(answer.parts) for answer in (case.first, case.second)]
            weighed = [None if p is None else opinion_of(p, view.frame, view.table, case.query) for p in parts]
            found.append(Opinions(case, *weighed))
    return found


def row_of(both: Opinions, settings: Settings) -> dict[str, Any]:
    """A case as a line of the log."""
    case, first, second = both.case, both.first, both.second
    doubts = ["no_mask"] if first is None else [doubt.reason for doubt in first.doubts(settings.sure_above)]
    row: dict[str, Any] = {name: getattr(case, name) for name in ("scene", "seed", "category", "kind", "style", "text")}
    for name, opinion in (("first", first), ("second", second)):
        row[name] = None if opinion is None else _brief(opinion, case)
    decision = decide(first, second, settings.sure_above, settings.present_above)
    row |= {"doubts": doubts, "asked": asks(first, settings)}
    row |= {"decision": {k: v for k, v in decision.as_json().items() if k != "says"}}
    row["right"] = {name: case.right(policy(both, settings)) for name, policy in POLICIES.items()}
    return row


def _brief(opinion: Opinion, case: Case) -> dict[str, Any]:
    plain = {k: v for k, v in opinion.as_json().items() if k not in ("checks", "tool", "pixels", "calibrated")}
    iou = None if case.truth is None else round(overlap(opinion.part.mask, case.truth).iou, 4)
    return {**plain, "iou": iou, "right": case.truth is not None and case.right(opinion.part)}


def compared(rows: list[dict[str, Any]], policy: str, baseline: str = "never") -> dict[str, Any]:
    """How often a policy is right, and against the baseline: helped, harmed, McNemar's exact p."""
    ours, theirs = ([row["right"][name] for row in rows] for name in (policy, baseline))
    helped = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    harmed = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    return {
        "right": rate(sum(ours), len(rows)),
        "helped": rate(helped, len(rows)),
        "harmed": rate(harmed, len(rows)),
        "mcnemar_p": round(mcnemar(harmed, helped), 5),
    }


def reliability(said: NDArray[np.float64], true: NDArray[np.bool_]) -> dict[str, Any]:
    """Brier score, expected calibration error over BINS equal bins, and the table: n, mean said, share true."""
    bin_of = np.minimum((said * BINS).astype(int), BINS - 1)
    table, error = [], 0.0
    for number in range(BINS):
        inside = bin_of == number
        if inside.any():
            mean, share = float(said[inside].mean()), float(true[inside].mean())
            error += float(inside.mean()) * abs(mean - share)
            table.append(
                {"from": number / BINS, "n": int(inside.sum()), "said": round(mean, 4), "true": round(share, 4)}
            )
    return {
        "n": len(said),
        "brier": round(float(np.mean((said - true) ** 2)), 4),
        "ece": round(error, 4),
        "table": table,
    }


def calibration(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Reliability of each tool's confidence and presence, its own and calibrated, over all cases."""
    found: dict[str, Any] = {}
    for tool in ("first", "second"):
        said = [row for row in rows if row[tool] is not None]
        truths = {"confidence": [r[tool]["right"] for r in said], "presence": [r["kind"] != "absent" for r in said]}
        for field, truth in truths.items():
            for name in (f"raw_{field}", field):
                values = np.array([r[tool][name] for r in said])
                found[f"{tool} {name}"] = reliability(values, np.array(truth, bool))
    return found


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Every policy over all cases and by kind; the policy's effect by the reason for asking."""
    groups = {"all": rows} | {k: [r for r in rows if r["kind"] == k] for k in ("trained", "novel", "absent")}
    reasons = sorted({reason for row in rows for reason in row["doubts"]})
    by_reason = {reason: [row for row in rows if row["asked"] and reason in row["doubts"]] for reason in reasons}
    return {
        "cases": len(rows),
        "asked": rate(sum(row["asked"] for row in rows), len(rows)),
        "either_right": rate(sum(_either(row) for row in rows), len(rows)),
        "policies": {g: {name: compared(some, name) for name in POLICIES} for g, some in groups.items() if some},
        "against_louder": compared(rows, "in doubt", "louder wins"),
        "by_reason": {reason: compared(some, "in doubt") for reason, some in by_reason.items() if some},
        "calibration": calibration(rows),
    }


def _either(row: dict[str, Any]) -> bool:
    if row["kind"] == "absent":
        return row["right"]["never"]
    return any(row[tool] is not None and row[tool]["right"] for tool in ("first", "second"))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
