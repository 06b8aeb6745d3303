"""From a cause and what was measured of it to a code of the taxonomy in docs/attribution.md. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from affordagent.core.types import Verdict

Measures = Mapping[str, Any]

LOST = 0.3  # share of the part's readings that are missing: a hole
FURTHER_M = 0.01  # the thing seems so much further away: the camera sees through it
ASIDE_PX = 3.0  # depth and colour pictures are not aligned
ON_PART = 0.35  # of a mask on the right thing: less is another part

_GEOMETRY = {
    "hits table": "grasp.collides_surface",
    "hits own object": "grasp.collides_scene",
    "hits neighbour": "grasp.collides_scene",
    "no contact": "grasp.off_mask",
    "wrong part": "grasp.off_mask",
}


def code_of(cause: str, failure_code: str | None, measures: Measures) -> str:
    """`group.code`. failure_code: what the run ended with. measures: of `comparison.Finding`, of this cause."""
    return {
        "language": _language,
        "depth": _depth,
        "calibration": _calibration,
        "grounding": _grounding,
        "grasp": _grasp,
        "planning": _planning,
        "execution": _execution,
    }[cause](failure_code or "", measures)


def verify_code(*, sensed: Verdict, true: Verdict) -> str | None:
    """How the sensors' verdict departs from the truth; None where it does not."""
    if sensed.success == true.success:
        return None
    return "verify.false_success" if sensed.success else "verify.false_failure"


def _language(failure_code: str, measures: Measures) -> str:
    match measures.get("expected", "grasp"), measures.get("outcome"):
        case "ask", _:
            return "language.ambiguous_unasked"
        case "refuse", _:
            return "language.not_refused"
        case _, "needs_clarification":
            return "language.needless_question"
        case _, "refused":
            return "language.refused"
    if failure_code.startswith("language."):
        return failure_code
    if not (measures.get("category_right", True) and measures.get("motion_right", True)):
        return "language.misread_function"
    return "language.misread_attribute" if measures.get("part_right", True) else "language.misread_part"


def _depth(failure_code: str, measures: Measures) -> str:
    if failure_code.startswith("camera."):
        return failure_code
    if measures.get("aside_px", 0.0) >= ASIDE_PX:
        return "depth.misaligned"
    if measures.get("lost", 0.0) >= LOST:
        return "depth.hole"
    if measures.get("further_m", 0.0) >= FURTHER_M:
        return "depth.transparent"
    return failure_code if failure_code.startswith("depth.") else "depth.noisy"


def _calibration(failure_code: str, measures: Measures) -> str:
    if failure_code.startswith("calibration."):
        return failure_code
    return (
        "calibration.hand_eye"
        if measures.get("camera_off_m", 0.0) >= measures.get("tcp_off_m", 0.0)
        else "calibration.tcp"
    )


def _grounding(failure_code: str, measures: Measures) -> str:
    if "iou" not in measures:  # no mask
        return failure_code if failure_code.startswith(("grounding.", "tool.")) else "grounding.not_found"
    if measures["px"] == 0:
        return "grounding.empty_mask"
    if not measures["object_right"]:
        return "grounding.wrong_instance" if measures["same_category"] else "grounding.wrong_object"
    if not measures.get("destination_right", True):
        return failure_code if failure_code.startswith("grounding.") else "grounding.wrong_object"
    precision, recall = measures["precision"], measures["recall"]
    if precision < ON_PART and recall < ON_PART:
        return "grounding.wrong_part"
    return "grounding.over_segmented" if precision >= recall else "grounding.under_segmented"


def _grasp(failure_code: str, measures: Measures) -> str:
    if not measures.get("planned", True):
        return failure_code if failure_code.startswith("grasp.") else "grasp.unreachable"
    if measures.get("better", 0):
        return "grasp.badly_ranked"
    return _GEOMETRY.get(measures.get("geometry", ""), "grasp.unstable")


def _planning(failure_code: str, measures: Measures) -> str:
    if not measures.get("planned", True):
        return failure_code if failure_code.startswith("planning.") else "planning.no_path"
    if measures.get("touches"):
        return "planning.collides"
    not_sent = failure_code.startswith("safety.") or failure_code == "execution.start_mismatch"
    return failure_code if not_sent else "planning.wrong_goal"


def _execution(failure_code: str, measures: Measures) -> str:
    return failure_code if failure_code.startswith(("execution.", "safety.")) else "execution.no_contact"
