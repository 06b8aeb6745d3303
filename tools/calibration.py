"""How far is a grounding tool's confidence to be believed? Logistic fits on development scenes of the simulated cell.

Each tool says how likely its mask is right, in its own way. `alone` maps that to the share of such masks that were
right (Platt 1999), so that one number means the same whoever says it. `together` reads two answers to one question. The
weights lie in `grounding_fit.json`, with how they were made. A tool, or a checkpoint, that was not in the fit has none:
its confidence stays its own, and is said to be uncalibrated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affordagent.core.overlap import overlap
from affordagent.core.types import PartMask
from affordagent.tools.grounding_fit import fitted
from affordagent.tools.mask_checks import far_pieces

WEIGHTS = "weights"  # the key of a PartMask's evidence that names the checkpoint


@dataclass(frozen=True)
class Alone:
    """Probabilities that the mask is right, and that what was asked for is there at all."""

    right: float
    there: float


@dataclass(frozen=True)
class Together:
    """What two answers say: probabilities that the first and the second mask is right, and that the thing is there."""

    first: float
    second: float
    there: float


def alone(part: PartMask) -> Alone | None:
    """None where the tool, or its checkpoint, was not fitted."""
    fit = fitted()["alone"].get(part.tool)
    if fit is None or fit[WEIGHTS] != weights_of(part):
        return None
    traits = traits_alone(part)
    return Alone(logistic(fit["right"], traits), logistic(fit["there"], traits))


def together(first: PartMask, second: PartMask) -> Together | None:
    """None where this pair of tools, or of their checkpoints, was not fitted."""
    fit = fitted()["together"].get(f"{first.tool}, {second.tool}")
    if fit is None or fit[WEIGHTS] != [weights_of(first), weights_of(second)]:
        return None
    traits = traits_together(first, second)
    return Together(*(logistic(fit[name], traits) for name in ("first", "second", "there")))


def weights_of(part: PartMask) -> str | None:
    """The checkpoint that the evidence names; None for a tool without one."""
    return part.evidence.get(WEIGHTS)


def traits_alone(part: PartMask) -> dict[str, float]:
    """What the fit of one answer goes by."""
    return {
        "bias": 1.0,
        "confidence": logit(part.confidence),
        "presence": logit(part.is_there),
        "untrained": _untrained(part),
    }


def traits_together(first: PartMask, second: PartMask) -> dict[str, float]:
    """What the fit of two answers goes by; same_object and same_part are IoUs. Two ends: shape finds a handle at either
    end, as of a rolling pin, where the network, which has not seen such things, looks for one."""
    same_part = overlap(first.mask, second.mask).iou
    return {
        "bias": 1.0,
        "first": logit(first.confidence),
        "first_presence": logit(first.is_there),
        "untrained": _untrained(first),
        "second": logit(second.confidence),
        "same_object": overlap(first.object_mask, second.object_mask).iou,
        "same_part": same_part,
        "untrained_other_part": _untrained(first) * (1 - same_part),
        "untrained_two_ends": _untrained(first) * 2 * far_pieces(second.mask),
    }


def _untrained(part: PartMask) -> float:
    """How much of the wish the tool's network was not trained on, for tools that know."""
    return float(part.evidence.get("traits", {}).get("untrained", 0.0))


def logistic(weights: dict[str, float], traits: dict[str, float]) -> float:
    return float(1 / (1 + np.exp(-sum(weights[name] * value for name, value in traits.items()))))


def logit(probability: float) -> float:
    p = float(np.clip(probability, 1e-3, 1 - 1e-3))
    return float(np.log(p / (1 - p)))
