"""Annotation by priority where the truth is known: what each tool's masks are worth, and whether the chain accepts the
right ones.

Each visible thing of a rendered picture becomes a wish that knows about it what a source might: its mask (sometimes a
wrong one), a person's box, or its name alone; wanted is the whole thing or its part. The truth is kept from the chain.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.agent.results import versions
from affordagent.core.catalogue import catalogue
from affordagent.core.run_store import write_json
from affordagent.core.types import Mask, box_of
from affordagent.evaluations.statistics import bootstrap_mean, rate
from affordagent.finetune.mini_data import Row, object_mask, part_mask
from affordagent.tools.annotation.chain import THRESHOLDS, Chain, iou
from affordagent.tools.annotation.types import PERSON, Wanted

GOOD_IOU = 0.8  # from here on a mask is worth keeping
PRECISION = 0.95  # of the accepted that should be good
LEAST_PX = 120  # of a thing, to be asked for
BOX_NOISE = 0.03  # of the sides: a person's box
SOURCES = {"mask": 0.2, "wrong mask": 0.15, "box": 0.35, "name": 0.3}  # what the source knows, and how often
WRONG = ("shifted", "another thing", "nearly empty", "everything")
FITTED = ("stability", "agreement", "score", "box_fill")  # measures with a least value to be found
FIXED: dict[str, tuple[str, float]] = {"pixels": ("least", 40), "apart": ("most", 0.2), "off_box": ("most", 0.1)}
STEPS = 8  # values of each measure that are tried
LEAST_ANSWERS = 30  # of a tool, for limits of its own


@dataclass(frozen=True)
class Case:
    """A wish with its truth. source: key of SOURCES; picture: id of the rendered picture."""

    picture: str
    wish: Wanted
    truth: Mask
    source: str


def cases_of(row: Row, seed: int, most: int = 100) -> list[Case]:
    """The wishes of one rendered picture, `most` of them, drawn; the same ones for the same seed."""
    rng = np.random.default_rng([seed, *row.record["id"].encode()])
    labels, cases = row.labels(), []
    for thing in row.visible():
        alike = sum(other["category"] == thing["category"] for other in row.record["objects"])
        known = catalogue().get(thing["category"])
        whole = object_mask(labels, thing["slot"])
        part = known.part if known is not None and known.part == thing["part"] and rng.random() < 0.5 else None
        truth = whole if part is None else part_mask(labels, thing)
        source = str(rng.choice(list(SOURCES), p=list(SOURCES.values())))
        if truth.sum() < LEAST_PX or (source == "name" and alike > 1):
            continue  # hardly to be seen, or no name tells the two apart
        box = _by_hand(box_of(whole), rng, truth.shape)
        wish = Wanted(thing["category"], part, box=None if source == "name" else box)
        if source == "mask":
            wish = replace(wish, original=truth)
        elif source == "wrong mask":
            wish = replace(wish, original=_spoilt(truth, labels, thing["slot"], rng))
        cases.append(Case(row.record["id"], wish, truth, source))
    return [cases[i] for i in sorted(rng.permutation(len(cases))[:most])]


def _by_hand(
    box: tuple[int, int, int, int], rng: np.random.Generator, shape: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """As a person draws it: the sides a little off."""
    x0, y0, x1, y1 = box
    noise = rng.normal(0, BOX_NOISE, 4) * [x1 - x0, y1 - y0, x1 - x0, y1 - y0]
    left, top, right, bottom = (np.array(box) + noise).clip(0, [shape[1], shape[0], shape[1], shape[0]])
    return float(left), float(top), float(max(right, left + 1)), float(max(bottom, top + 1))


def _spoilt(truth: Mask, labels: Any, slot: int, rng: np.random.Generator) -> Mask:
    """A mask as broken as those that published sets hold here and there."""
    how = str(rng.choice(WRONG))
    if how == "shifted":
        x0, y0, x1, y1 = box_of(truth)
        return np.roll(truth, (max(y1 - y0, 12), max(x1 - x0, 12)), (0, 1))
    if how == "another thing":
        others = [s for s in np.unique(labels[(labels > 0) & (labels != 255)] // 8) if s != slot]
        return object_mask(labels, int(rng.choice(others))) if others else ~truth
    if how == "everything":
        return np.ones_like(truth)
    few = np.zeros_like(truth)
    rows, columns = np.nonzero(truth)
    few[rows[:8], columns[:8]] = True
    return few


def study(
    chain: Chain, rows: Iterable[Row], seed: int, most: int = 100, every_tool: bool = False
) -> Iterator[dict[str, Any]]:
    """A JSON row for each wish, `most` a picture: what the chain made of it, and the IoU of every attempt with the
    truth.

    every_tool: all tools are asked, whatever the ones before them gave; for fitting.
    """
    for row in rows:
        cases = cases_of(row, seed, most)
        picture = row.color()
        found = chain.annotate(picture, [case.wish for case in cases])
        attempts = [list(annotation.attempts) for annotation in found]
        if every_tool:
            answers = [maker.answers(picture, [case.wish for case in cases]) for maker in chain.makers]
            attempts = [
                [chain.judged(maker.name, of[i]) for maker, of in zip(chain.makers, answers, strict=True)]
                for i in range(len(cases))
            ]
        for case, annotation, tried in zip(cases, found, attempts, strict=True):
            yield {
                "picture": case.picture,
                "category": case.wish.category,
                "part": case.wish.part,
                "source": case.source,
                "tool": annotation.tool,
                "reason": annotation.reason,
                "uncertainty": round(annotation.uncertainty, 4),
                "iou": None if annotation.mask is None else round(iou(annotation.mask, case.truth), 4),
                "attempts": [
                    {
                        "tool": attempt.tool,
                        "accepted": attempt.accepted,
                        "iou": round(iou(attempt.mask, case.truth), 4),
                        "measures": {m.name: round(m.value, 4) for m in attempt.measures},
                    }
                    for attempt in tried
                    if attempt.mask is not None
                ],
            }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the chain: how much it accepts and what that is worth. Of each tool: precision and recall of its acceptance,
    good being an IoU of GOOD_IOU. All rates with Wilson intervals."""
    kept = [row for row in rows if row["tool"] != PERSON]
    ious = [row["iou"] for row in kept]
    by_tool = {}
    for tool in dict.fromkeys(a["tool"] for row in rows for a in row["attempts"]):
        tried = [a for row in rows for a in row["attempts"] if a["tool"] == tool]
        accepted = [a for a in tried if a["accepted"]]
        good = [a for a in tried if a["iou"] >= GOOD_IOU]
        right = sum(a["accepted"] for a in good)
        by_tool[tool] = {
            "answers": len(tried),
            "iou": round(float(np.mean([a["iou"] for a in tried])), 4),
            "precision": rate(right, len(accepted)),
            "recall": rate(right, len(good)),
            "iou_accepted": round(float(np.mean([a["iou"] for a in accepted])), 4) if accepted else None,
        }
    return {
        "wishes": len(rows),
        "pictures": len({row["picture"] for row in rows}),
        "accepted": rate(len(kept), len(rows)),
        "to_a_person": rate(len(rows) - len(kept), len(rows)),
        "accepted_good": rate(sum(i >= GOOD_IOU for i in ious), len(kept)),
        "accepted_iou": [round(v, 4) for v in bootstrap_mean(ious)] if ious else None,
        "by_tool_taken": {t: sum(row["tool"] == t for row in rows) for t in dict.fromkeys(r["tool"] for r in rows)},
        "by_tool": by_tool,
    }


def fit(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, tuple[str, float]]]:
    """Limits for each tool with enough answers: of all combinations of a few values, those that accept the most good
    masks while PRECISION of the accepted are good; where none does, the most precise. rows: of `study` with every_tool.
    """
    limits: dict[str, dict[str, tuple[str, float]]] = {"any": dict(FIXED) | _CAREFUL}
    for tool in dict.fromkeys(a["tool"] for row in rows for a in row["attempts"]):
        tried = [a for row in rows for a in row["attempts"] if a["tool"] == tool]
        tried = [a for a in tried if all(_keeps(a["measures"], name, *limit) for name, limit in FIXED.items())]
        names = [name for name in FITTED if tried and all(name in a["measures"] for a in tried)]
        if len(tried) >= LEAST_ANSWERS and names:
            limits[tool] = {
                name: ("least", round(float(v), 3)) for name, v in zip(names, _best(tried, names), strict=True)
            }
    return limits


_CAREFUL: dict[str, tuple[str, float]] = {"stability": ("least", 0.8), "agreement": ("least", 0.75)}


def _keeps(measures: dict[str, float], name: str, rule: str, limit: float) -> bool:
    value = measures.get(name)
    return value is None or (value >= limit if rule == "least" else value <= limit)


def _best(tried: list[dict[str, Any]], names: list[str]) -> tuple[float, ...]:
    good = np.array([a["iou"] >= GOOD_IOU for a in tried])
    values = np.array([[a["measures"][name] for name in names] for a in tried])
    grids = [np.unique(np.r_[0.0, np.quantile(values[:, i], np.linspace(0, 0.9, STEPS))]) for i in range(len(names))]

    def worth(combination: tuple[float, ...]) -> tuple[float, float]:
        accepted = (values >= combination).all(axis=1)
        right = float((accepted & good).sum())
        precision = right / max(accepted.sum(), 1)
        return min(precision, PRECISION), right

    return max(itertools.product(*grids), key=worth)


def write_fit(rows: Sequence[dict[str, Any]], made: dict[str, Any]) -> None:
    """Keep the limits in the package's `thresholds.json`, with how they came about."""
    write_json(THRESHOLDS, {"limits": fit(rows), "made": made | {"wishes": len(rows), "versions": versions()}})


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write JSON lines while they come; the rows."""
    kept = []
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
            kept.append(row)
    return kept
