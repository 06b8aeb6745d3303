"""From what was measured of a stage to the code of its failure."""

from __future__ import annotations

from typing import Any

import pytest

from affordagent.core.causes import CAUSES
from affordagent.evaluations.causes.taxonomy import code_of

MASK = {"px": 900, "iou": 0.3, "object_right": True, "same_category": True, "precision": 0.9, "recall": 0.3}


@pytest.mark.parametrize(
    ("cause", "failure", "measures", "code"),
    [
        ("language", "verify.x", {"category_right": False}, "language.misread_function"),
        ("language", None, {"category_right": True, "motion_right": False}, "language.misread_function"),
        ("language", None, {"category_right": True, "part_right": False}, "language.misread_part"),
        ("language", None, {"category_right": True, "part_right": True}, "language.misread_attribute"),
        ("language", None, {"outcome": "needs_clarification"}, "language.needless_question"),
        ("language", None, {"outcome": "refused"}, "language.refused"),
        ("language", "language.tool_format", {"outcome": "failure"}, "language.tool_format"),
        ("language", None, {"expected": "ask", "outcome": "went on"}, "language.ambiguous_unasked"),
        ("language", None, {"expected": "refuse", "outcome": "went on"}, "language.not_refused"),
        ("depth", "depth.hole", {"lost": 0.9, "further_m": 0.0, "aside_px": 0.2}, "depth.hole"),
        ("depth", "execution.drop", {"lost": 0.0, "further_m": 0.03, "aside_px": 0.0}, "depth.transparent"),
        ("depth", "execution.drop", {"lost": 0.1, "further_m": 0.0, "aside_px": 12.0}, "depth.misaligned"),
        ("depth", "execution.drop", {"lost": 0.1, "further_m": 0.001, "aside_px": 0.4}, "depth.noisy"),
        ("depth", "camera.no_frame", {}, "camera.no_frame"),
        ("calibration", "calibration.drift", {"camera_off_m": 0.05}, "calibration.drift"),
        ("calibration", "execution.drop", {"camera_off_m": 0.02, "tcp_off_m": 0.0}, "calibration.hand_eye"),
        ("calibration", "execution.drop", {"camera_off_m": 0.0, "tcp_off_m": 0.01}, "calibration.tcp"),
        ("grounding", "grounding.not_found", {"wanted": True}, "grounding.not_found"),
        ("grounding", "tool.timeout", {"wanted": True}, "tool.timeout"),
        ("grounding", "grounding.empty_mask", {**MASK, "px": 0}, "grounding.empty_mask"),
        ("grounding", None, {**MASK, "object_right": False, "same_category": False}, "grounding.wrong_object"),
        ("grounding", None, {**MASK, "object_right": False}, "grounding.wrong_instance"),
        ("grounding", None, {**MASK, "precision": 0.1, "recall": 0.1}, "grounding.wrong_part"),
        ("grounding", None, {**MASK, "precision": 0.4, "recall": 0.9}, "grounding.under_segmented"),
        ("grounding", None, MASK, "grounding.over_segmented"),
        ("grounding", "scene.no_room", {**MASK, "destination_right": False}, "grounding.wrong_object"),
        ("grounding", "grounding.not_found", {**MASK, "destination_right": False}, "grounding.not_found"),
        ("grasp", "grasp.too_wide", {"planned": False}, "grasp.too_wide"),
        ("grasp", "planning.ik", {"planned": False}, "grasp.unreachable"),
        ("grasp", "execution.drop", {"geometry": "no contact", "better": 3}, "grasp.badly_ranked"),
        ("grasp", "execution.no_contact", {"geometry": "no contact", "better": 0}, "grasp.off_mask"),
        ("grasp", "execution.collision", {"geometry": "hits table", "better": 0}, "grasp.collides_surface"),
        ("grasp", "execution.collision", {"geometry": "hits neighbour", "better": 0}, "grasp.collides_scene"),
        ("grasp", "execution.slip", {"geometry": "valid", "better": 0}, "grasp.unstable"),
        ("planning", "planning.singularity", {"planned": False}, "planning.singularity"),
        ("planning", None, {"goal_off_m": 0.03}, "planning.wrong_goal"),
        ("planning", None, {"goal_off_m": 0.0, "touches": ["x"]}, "planning.collides"),
        ("execution", "execution.protective_stop", {}, "execution.protective_stop"),
        ("execution", "verify.unknown", {}, "execution.no_contact"),
    ],
)  # fmt: skip
def test_codes(cause: str, failure: str | None, measures: dict[str, Any], code: str) -> None:
    assert code_of(cause, failure, measures) == code


@pytest.mark.parametrize("cause", CAUSES)
def test_there_is_a_code_however_little_is_known(cause: str) -> None:
    assert "." in code_of(cause, None, {})
