"""Fits what the second opinion goes by, on development scenes, into `tools/grounding_fit.json`: the limits of the mask
checks, and the calibration of the confidences.

A limit is the value that all but a few of the good masks keep (KEPT): good are the first tool's masks that are right
(IoU 0.5 or more with the true part), and the true masks themselves. Good masks of other scenes go a
little beyond it, shifted and split ones by far: hence the SLACK. The calibrations are logistic, with a small quadratic
prior, fitted to "the mask is right", as often as it is in these cases, and to "what was asked for is there", as if half
of it was not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from affordagent.core.geometry import Array
from affordagent.core.run_store import write_json
from affordagent.core.types import PartMask
from affordagent.evaluations.grounding_answers import Case, Seen
from affordagent.tools.affordance_vlm import MIN_PART_PX
from affordagent.tools.calibration import WEIGHTS, traits_alone, traits_together, weights_of
from affordagent.tools.grounding_fit import FIT, fitted
from affordagent.tools.mask_checks import fitted_limits, measure

PRIOR = 1e-3  # weight of the squared weights
KEPT = 0.002  # share of good masks that a limit leaves out
SLACK = 0.05  # room beyond a limit, as a share of it
LEAST = ("part_area_cm2", "object_area_cm2")  # measures with a lower limit, too
# Exact in rendered truth or by construction of our tools: a limit below these would be of the renderer, not of masks.
ROOM = {"off_object": 0.02, "off_things": 0.02, "on_table": 0.02, "apart": 0.02, "second_thing": 0.02}


def best(parts: list[PartMask]) -> PartMask | None:
    """The first mask that is not blank."""
    return next((part for part in parts if part.mask.any()), None)


def good_masks(seen: list[Seen]) -> list[tuple[PartMask, Seen, Case]]:
    """Right answers of the first tool, and the truth where it has enough pixels."""
    good = []
    for view in seen:
        for case in view.cases:
            if case.truth is None or case.whole is None:
                continue
            first = best(case.first.parts)
            if first is not None and case.right(first):
                good.append((first, view, case))
            good.append((PartMask(case.truth, case.whole, 1.0, "truth"), view, case))
    return good


def write_fit(seen: list[Seen], made: dict[str, Any]) -> None:
    """Fit everything on these scenes and replace the artefact. made: how, to be kept with it."""
    write_json(FIT, {"made": made, "limits": fit_limits(seen), **fit_confidence(seen)})
    fitted.cache_clear()
    fitted_limits.cache_clear()


def fit_limits(seen: list[Seen]) -> dict[str, dict[str, float | None]]:
    values: dict[str, list[float]] = {}
    for part, view, case in good_masks(seen):
        query = case.query
        if np.array_equal(part.mask, part.object_mask):  # such a thing has no proper part, whatever the words say
            query = query.model_copy(update={"part": None})
        for name, value in measure(part, view.frame, view.table, query).items():
            values.setdefault(name, []).append(value)
    limits: dict[str, dict[str, float | None]] = {"pixels": {"least": float(MIN_PART_PX), "most": None}}
    for name in sorted(set(values) - {"pixels"}):
        low, high = np.quantile(values[name], [KEPT, 1 - KEPT])
        limits[name] = {
            "least": round(float(low) / (1 + SLACK), 4) if name in LEAST else None,
            "most": round(max(float(high), ROOM.get(name, 0.0)) * (1 + SLACK), 4),
        }
    return limits


def fit_logistic(traits: list[dict[str, float]], true: NDArray[np.bool_], balanced: bool = False) -> dict[str, float]:
    """Weights of the traits; a trait that is 0 throughout gets 0. balanced: as if half of the cases were true."""
    names = [name for name in traits[0] if any(t[name] for t in traits)]
    x, sign = np.array([[t[name] for name in names] for t in traits]), np.where(true, 1.0, -1.0)

    share = np.where(true, 1 / true.sum(), 1 / (~true).sum()) / 2 if balanced else np.full(len(true), 1 / len(true))

    def loss(weights: Array) -> float:
        return float(share @ np.logaddexp(0, -sign * (x @ weights)) + PRIOR * weights @ weights)

    fitted = minimize(loss, np.zeros(len(names))).x
    return {name: 0.0 for name in traits[0]} | dict(zip(names, np.round(fitted, 4).tolist(), strict=True))


def fit_confidence(seen: list[Seen]) -> dict[str, Any]:
    """The calibration of each tool "alone", and of the pair "together"."""
    cases = [case for view in seen for case in view.cases]
    pairs = [(f, s, c) for c in cases if (f := best(c.first.parts)) and (s := best(c.second.parts))]
    firsts, seconds, asked = [pair[0] for pair in pairs], [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    truths = {"there": np.array([case.truth is not None for case in asked])}
    alone = {}
    for name, parts in (("first", firsts), ("second", seconds)):
        truths[name] = np.array([c.truth is not None and c.right(p) for c, p in zip(asked, parts, strict=True)])
        traits = [traits_alone(part) for part in parts]
        fits = {
            "right": fit_logistic(traits, truths[name]),
            "there": fit_logistic(traits, truths["there"], balanced=True),
        }
        alone[parts[0].tool] = {WEIGHTS: weights_of(parts[0]), **fits}
    traits = [traits_together(first, second) for first, second in zip(firsts, seconds, strict=True)]
    made = {name: fit_logistic(traits, truth, name == "there") for name, truth in truths.items()}
    pair = f"{firsts[0].tool}, {seconds[0].tool}"
    return {"alone": alone, "together": {pair: {WEIGHTS: [weights_of(firsts[0]), weights_of(seconds[0])], **made}}}
