"""When is a second tool asked, and which of two masks is taken?

A mask is doubted when its confidence is below `sure_above` or when it fails a check. Then the fallback is asked, unless
the thing is surely not there, and of the masks that pass all checks the one more likely right is taken, if the thing is
likely there. The second tool may bring back a thing that the first took for absent, and may not talk away a plausible
one. All of it is plain functions of what the tools said, so that a run's record can repeat the decision and an
evaluation can replay it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from affordagent.core.overlap import overlap
from affordagent.core.types import FunctionalQuery, PartMask, RgbdFrame, TableScene
from affordagent.tools.calibration import alone, together
from affordagent.tools.mask_checks import Check, check_mask

SAME_OBJECT = 0.5  # IoU of two object masks from which both tools mean the same thing
SAME_PART = 0.5  # IoU of two part masks from which each confirms the other
SURELY_ABSENT = 0.5  # share of `present_above` below which, in development, a second answer did not help

Reason = Literal["no_second", "no_first", "implausible", "agreement", "confidence", "not_there", "none_plausible"]


@dataclass(frozen=True)
class Doubt:
    """Why a mask is not simply taken. reason: "low_confidence", "no_mask", or the name of the failed check."""

    reason: str
    says: str


@dataclass(frozen=True)
class Opinion:
    """A tool's mask and what we hold of it. confidence, presence: calibrated if the tool was fitted, else its own."""

    part: PartMask
    confidence: float
    presence: float
    calibrated: bool
    checks: list[Check]

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]

    def doubts(self, sure_above: float) -> list[Doubt]:
        """Empty for a mask to take as it is."""
        found = [Doubt(check.name, check.says) for check in self.failed]
        if self.confidence < sure_above:
            found.append(Doubt("low_confidence", f"confidence {self.confidence:.2f}, sure from {sure_above:.2f}"))
        return found

    def surely_absent(self, present_above: float) -> bool:
        """So unlikely there that no second tool need be asked: for calibrated tools, and masks that look like one."""
        return self.calibrated and not self.failed and self.presence < SURELY_ABSENT * present_above

    def as_json(self) -> dict[str, Any]:
        return {
            "tool": self.part.tool,
            "confidence": round(self.confidence, 4),
            "raw_confidence": round(self.part.confidence, 4),
            "calibrated": self.calibrated,
            "presence": round(self.presence, 4),
            "raw_presence": round(self.part.is_there, 4),
            "pixels": int(self.part.mask.sum()),
            "checks": [check.as_json() for check in self.checks],
            "failed_checks": [check.name for check in self.failed],
        }


@dataclass(frozen=True)
class Decision:
    """Which mask is taken, if any, and why. agreement: IoU of the two object masks; confidence, presence: what is held
    of the taken mask (of the likelier one when none is taken) after both answers. disputed: each tool, by itself, was
    sure of another thing."""

    taken: Literal["first", "second"] | None
    reason: Reason
    says: str
    confidence: float
    presence: float
    agreement: float | None = None
    disputed: bool = False
    part: PartMask | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "taken": self.taken,
            "reason": self.reason,
            "says": self.says,
            "confidence": round(self.confidence, 4),
            "presence": round(self.presence, 4),
            "agreement_iou": None if self.agreement is None else round(self.agreement, 4),
            "disputed": self.disputed,
        }


def opinion_of(part: PartMask, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> Opinion:
    """Check a mask and weigh its confidence."""
    fit, checks = alone(part), check_mask(part, frame, scene, query)
    if fit is None:
        return Opinion(part, part.confidence, part.is_there, False, checks)
    return Opinion(part, fit.right, fit.there, True, checks)


def decide(first: Opinion | None, second: Opinion | None, sure_above: float, present_above: float) -> Decision:
    """Take one of two answers to a question, None for a tool that found nothing, or neither.

    With a fit of this pair of tools the confidences, and the presence, come from both answers together; without one
    each mask keeps the confidence it has alone, and the taken mask's own presence counts. A plausible first mask is as
    likely there as the first tool alone holds it, or more.
    """
    if first is None or second is None:
        only = first or second
        if only is None:
            return Decision(None, "not_there", "neither tool found such a thing", 0.0, 0.0)
        name: Literal["first", "second"] = "first" if only is first else "second"
        reason: Reason = "no_second" if only is first else "no_first"
        says = f"the {'second' if only is first else 'first'} tool found nothing"
        return _if_there(only, name, reason, says, only.confidence, only.presence, present_above)
    return _between(first, second, sure_above, present_above)


def absent(first: Opinion) -> Decision:
    """The decision without a second tool, where the first one is sure that there is no such thing."""
    says = f"the first tool holds it to be there with probability {first.presence:.2f} only, too low to ask another"
    return Decision(None, "not_there", says, first.confidence, first.presence)


def _between(first: Opinion, second: Opinion, sure_above: float, present_above: float) -> Decision:
    agreement = overlap(first.part.object_mask, second.part.object_mask).iou
    disputed = agreement < SAME_OBJECT and min(first.confidence, second.confidence) >= sure_above
    both = together(first.part, second.part)
    confidences = (first.confidence, second.confidence) if both is None else (both.first, both.second)
    takes_first = confidences[0] >= confidences[1]
    reason: Reason = "agreement" if agreement >= SAME_OBJECT else "confidence"
    says = (
        f"both tools mean the same thing, and the {'first' if takes_first else 'second'} mask is more likely right"
        if agreement >= SAME_OBJECT
        else f"the tools mean different things, and the {'first' if takes_first else 'second'} is more likely right"
    )
    if bool(first.failed) != bool(second.failed):  # the implausible one is out
        takes_first = not first.failed
        reason, says = "implausible", f"the {'second' if takes_first else 'first'} mask is implausible"
    taken = first if takes_first else second
    confidence = confidences[0 if takes_first else 1]
    says += f" ({confidence:.2f} against {confidences[1 if takes_first else 0]:.2f})"
    presence = taken.presence if both is None else both.there
    if not first.failed:
        presence = max(presence, first.presence)
    elif agreement < SAME_OBJECT and second.presence < present_above:
        unsure = f"the second means another thing, there with probability {second.presence:.2f} only"
        said = f"{_implausible(first)}; {unsure}, {present_above:.2f} needed"
        return Decision(None, "none_plausible", said, confidence, second.presence, agreement, disputed)
    confirmed = overlap(first.part.mask, second.part.mask).iou >= SAME_PART and bool(first.part.mask.any())
    name: Literal["first", "second"] = "first" if takes_first else "second"
    made = _if_there(taken, name, reason, says, confidence, presence, present_above, confirmed)
    return replace(made, agreement=agreement, disputed=disputed)


def _if_there(
    opinion: Opinion,
    name: Literal["first", "second"],
    reason: Reason,
    says: str,
    confidence: float,
    presence: float,
    present_above: float,
    confirmed: bool = False,
) -> Decision:
    """confirmed: the other tool gives nearly the same mask, so that it is the thing that is unusual."""
    if opinion.failed and not confirmed:
        return Decision(None, "none_plausible", _implausible(opinion), confidence, presence)
    if presence < present_above:
        said = f"{says}, but such a thing is there with probability {presence:.2f} only, {present_above:.2f} needed"
        return Decision(None, "not_there", said, confidence, presence)
    return Decision(name, reason, says, confidence, presence, part=opinion.part)


def _implausible(opinion: Opinion) -> str:
    return f"no mask is plausible: {'; '.join(check.says for check in opinion.failed)}"
