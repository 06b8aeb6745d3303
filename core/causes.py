"""Why a trial failed: which stage is to blame, said in one form whoever found it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

CAUSES = ("language", "depth", "calibration", "grounding", "grasp", "planning", "execution")
"""What may be to blame, in the order in which the pipeline uses it; also the groups of the failure codes."""

NODE_OF_CAUSE = {
    "language": "understand",
    "depth": "look",
    "calibration": "look",
    "grounding": "ground",
    "grasp": "propose",
    "planning": "plan",
    "execution": "execute",
}
"""The node of the grasp graph whose output is at fault."""

KIND_OF_CAUSE = {
    "language": "visual",
    "grounding": "visual",
    "grasp": "pose",
    "planning": "pose",
    "depth": "hardware",
    "calibration": "hardware",
    "execution": "hardware",
}
"""As OK-Robot (Liu et al., RSS 2024) divides its failures: seeing and language, pose, hardware with depth and
calibration."""


@dataclass(frozen=True)
class Attribution:
    """Who is to blame for the outcome of one trial.

    by: "substitution" = the trial was replayed with stages repaired; "evidence" = rules over the run folder and what a
    person marked afterwards. first_failing: the first cause whose output was wrong, by comparison with the truth or by
    the rules; None = none was. causal: the smallest set of causes whose repair makes the trial succeed, the earliest
    such set where there are several; empty = nothing to blame (a success, or luck). shares: Shapley value of each
    cause; they sum to what repairing all gains. ladder: cause -> rate of success with this and all before it repaired.
    code: of the superset in docs/attribution.md. luck: rate of success of the unchanged trial, repeated. confidence in
    [0, 1]: probability that `causal` is right. replays: {"repaired": [...], "success": bool, "code", "seed"} of each.
    """

    by: Literal["substitution", "evidence"]
    first_failing: str | None
    causal: tuple[str, ...]
    shares: dict[str, float]
    code: str | None
    confidence: float
    luck: float | None = None
    ladder: dict[str, float] = field(default_factory=dict)
    replays: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str | None:
        """ "visual", "pose" or "hardware": of the first causal stage."""
        return KIND_OF_CAUSE[self.causal[0]] if self.causal else None
