"""When a second opinion is asked, which mask is taken, and what a run keeps of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from affordagent.agent.report import write_report
from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import StageFailure
from affordagent.core.run_store import RunStore, write_json
from affordagent.core.types import FunctionalQuery, Mask, ObjectProposal, PartMask, RgbdFrame, TableScene, box_of
from affordagent.evaluations.fallback import compared, reliability
from affordagent.evaluations.fallback_fit import fit_logistic
from affordagent.evaluations.mask_faults import FAULTS
from affordagent.graphs import grounding, stages
from affordagent.graphs.state import Workbench
from affordagent.tools.affordance_vlm import AffordanceTool
from affordagent.tools.calibration import alone, logistic, together, traits_alone, traits_together
from affordagent.tools.grounding_fit import fitted
from affordagent.tools.mask_checks import MEASURES, check_mask, measure
from affordagent.tools.second_opinion import Opinion, decide, opinion_of

H, W, Z_M = 240, 320, 0.8
QUERY = FunctionalQuery(text="the hammer", intent="pick", category="hammer", object_words="hammer", part="handle")


def area(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


HAMMER, HANDLE, MUG = area(60, 60, 160, 74), area(60, 61, 130, 73), area(220, 150, 260, 185)
MUG_SIDE = area(225, 152, 240, 183)


def scene() -> tuple[RgbdFrame, TableScene]:
    """Two things, 4 cm high, under a camera that looks straight down."""
    height = np.zeros((H, W), np.float32)
    height[HAMMER | MUG] = 0.04
    camera = CameraIntrinsics(W, H, 300.0, 300.0, 159.5, 119.5)
    frame = RgbdFrame(np.full((H, W, 3), 128, np.uint8), (Z_M - height).astype(np.float32), camera, np.eye(4))
    proposals = [ObjectProposal(i, mask, box_of(mask)) for i, mask in enumerate((HAMMER, MUG))]
    return frame, TableScene(np.array([0.0, 0.0, -1.0, Z_M]), height, proposals)


def part(mask: Mask = HANDLE, whole: Mask = HAMMER, confidence: float = 0.9, tool: str = "tool", **more) -> PartMask:
    return PartMask(mask, whole, confidence, tool, **more)


def opinion(mask: PartMask, query: FunctionalQuery = QUERY) -> Opinion:
    return opinion_of(mask, *scene(), query)


# Checks


def test_a_good_mask_passes_every_check() -> None:
    checks = check_mask(part(), *scene(), QUERY)
    assert {check.name for check in checks} == set(MEASURES)
    assert [check.says for check in checks if not check.passed] == []


@pytest.mark.parametrize(
    ("mask", "whole", "failed"),
    [
        (area(0, 0, 0, 0), area(0, 0, 0, 0), "pixels"),
        (area(80, 64, 84, 68), HAMMER, "pixels"),
        (area(80, 64, 88, 70), HAMMER, "part_area_cm2"),
        (area(10, 10, 300, 230), area(10, 10, 300, 230), "part_thickness_m"),
        (HAMMER, HAMMER, "part_of_object"),
        (MUG, HAMMER, "off_object"),
        (area(60, 100, 130, 116), area(60, 100, 130, 116), "off_things"),
        (area(60, 100, 130, 116), area(60, 100, 130, 116), "on_table"),
        (area(60, 61, 72, 73) | area(95, 61, 107, 73) | area(140, 61, 152, 73), HAMMER, "apart"),
        (HANDLE, HAMMER | MUG, "second_thing"),
    ],
)
def test_an_implausible_mask_is_named_with_value_and_limit(mask: Mask, whole: Mask, failed: str) -> None:
    checks = {check.name: check for check in check_mask(part(mask, whole), *scene(), QUERY)}
    assert not checks[failed].passed
    assert "expected" in checks[failed].says
    json.dumps([check.as_json() for check in checks.values()])


def test_areas_are_metric() -> None:
    """A pixel is z / f wide: 70 x 12 px at 0.76 m and f = 300 px."""
    found = measure(part(), *scene(), QUERY)
    assert found["part_area_cm2"] == pytest.approx(1e4 * 70 * 12 * (0.76 / 300) ** 2, rel=1e-3)
    assert found["part_thickness_m"] == pytest.approx(12 * 0.76 / 300, rel=0.1)
    assert found["part_of_object"] == pytest.approx(0.6)


def test_what_cannot_be_measured_is_not_checked() -> None:
    frame, table = scene()
    blind = replace(frame, depth_m=np.zeros_like(frame.depth_m))
    dark = TableScene(table.plane_camera, np.full((H, W), np.nan, np.float32), [])
    found = measure(part(), blind, dark, QUERY)
    assert set(found) == {"pixels", "off_object", "apart", "part_of_object"}
    assert "part_of_object" not in measure(part(), blind, dark, QUERY.model_copy(update={"part": None}))


# Calibration


def test_the_fit_belongs_to_the_shipped_checkpoint() -> None:
    assert fitted()["alone"]["affordance_vlm"]["weights"] == AffordanceTool().weights
    assert {name for name, limits in fitted()["limits"].items() if limits} == set(MEASURES)


def test_the_fit_has_a_weight_for_every_trait() -> None:
    for fit in fitted()["alone"].values():
        assert set(fit["right"]) == set(fit["there"]) == set(traits_alone(part()))
    for fit in fitted()["together"].values():
        for name in ("first", "second", "there"):
            assert set(fit[name]) == set(traits_together(part(), part()))


def test_only_what_was_fitted_is_calibrated() -> None:
    weights = AffordanceTool().weights
    known = part(tool="affordance_vlm", evidence={"weights": weights}, presence=0.9)
    assert alone(known) is not None
    assert alone(replace(known, evidence={"weights": "another"})) is None
    assert alone(part(tool="grounded_sam2")) is None
    assert together(known, part(tool="tabletop")) is not None
    assert together(known, part(tool="grounded_sam2")) is None
    assert not opinion(part(tool="grounded_sam2")).calibrated


def test_more_confidence_is_more_trust() -> None:
    weights = AffordanceTool().weights
    said = [part(tool="affordance_vlm", confidence=c, evidence={"weights": weights}, presence=0.8) for c in (0.1, 0.9)]
    low, high = (alone(p) for p in said)
    assert low is not None
    assert high is not None
    assert 0 < low.right < high.right < 1
    assert logistic({"a": 0.0}, {"a": 3.0}) == 0.5


# Decisions


@pytest.mark.parametrize(
    ("first", "second", "taken", "reason"),
    [
        (part(confidence=0.5), part(confidence=0.7), "second", "agreement"),
        (part(confidence=0.5), part(confidence=0.4), "first", "agreement"),
        (part(confidence=0.5), part(MUG_SIDE, MUG, 0.7), "second", "confidence"),
        (part(HAMMER, HAMMER, 0.95), part(confidence=0.5), "second", "implausible"),
        (part(HAMMER, HAMMER, 0.95), part(MUG_SIDE, MUG, 0.5), "second", "implausible"),
        (part(HAMMER, HAMMER, 0.95), part(MUG_SIDE, MUG, 0.3), None, "none_plausible"),  # another thing, and not there
        (part(confidence=0.5), part(HAMMER, HAMMER, 0.9), "first", "implausible"),
        (part(confidence=0.3, presence=0.5), part(confidence=0.35, presence=0.1), "second", "agreement"),
        (part(confidence=0.3, presence=0.1), part(confidence=0.35, presence=0.5), "second", "agreement"),
        (part(confidence=0.5), None, "first", "no_second"),
        (None, part(confidence=0.5), "second", "no_first"),
        (part(confidence=0.3), None, None, "not_there"),
        (part(confidence=0.3), part(confidence=0.35), None, "not_there"),
        (None, None, None, "not_there"),
        (part(HAMMER, HAMMER), None, None, "none_plausible"),
        (part(HAMMER, HAMMER), part(area(60, 100, 130, 116), area(60, 100, 130, 116)), None, "none_plausible"),
        (part(HAMMER, HAMMER), part(HAMMER, HAMMER, 0.5), "first", "agreement"),  # each confirms the other
    ],
)
def test_decision(first, second, taken, reason) -> None:
    opinions = [None if p is None else opinion(p) for p in (first, second)]
    decision = decide(*opinions, sure_above=0.6, present_above=0.4)
    assert (decision.taken, decision.reason) == (taken, reason)
    assert decision.part is {"first": first, "second": second, None: None}[taken]
    assert decision.says
    json.dumps(decision.as_json())


def test_two_sure_tools_that_mean_different_things_are_a_dispute() -> None:
    other = part(MUG_SIDE, MUG, 0.7)
    assert decide(opinion(part()), opinion(other), 0.6, 0.4).disputed
    assert not decide(opinion(part()), opinion(part()), 0.6, 0.4).disputed


# The evaluation


def test_reliability_of_a_calibrated_and_of_a_boasting_tool() -> None:
    said = np.repeat([0.1, 0.9], 500)
    true = np.random.default_rng(0).random(1000) < said
    assert reliability(said, true)["ece"] < 0.03
    boast = reliability(np.full(1000, 0.99), true)
    assert boast["ece"] == pytest.approx(0.99 - true.mean(), abs=1e-3)
    assert sum(row["n"] for row in boast["table"]) == 1000


def test_what_helped_and_what_harmed_is_counted_in_pairs() -> None:
    rows = [{"right": {"never": a, "in doubt": b}} for a, b in [(0, 1)] * 8 + [(1, 0)] * 1 + [(1, 1)] * 11]
    figures = compared(rows, "in doubt")
    assert (figures["helped"]["k"], figures["harmed"]["k"], figures["right"]["k"]) == (8, 1, 19)
    assert figures["mcnemar_p"] == pytest.approx(0.0391, abs=1e-3)


def test_a_logistic_fit_finds_its_weights_and_may_be_balanced() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    true = rng.random(4000) < 1 / (1 + np.exp(-(1 + 2 * x)))
    traits = [{"bias": 1.0, "x": float(v), "never": 0.0} for v in x]
    weights = fit_logistic(traits, true)
    assert (weights["bias"], weights["x"]) == (pytest.approx(1, abs=0.2), pytest.approx(2, abs=0.2))
    assert weights["never"] == 0
    assert fit_logistic(traits, true, balanced=True)["bias"] < weights["bias"]


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_is_noticed_on_a_plain_scene(name: str) -> None:
    faulty = FAULTS[name](part(), scene()[1], np.random.default_rng(0))
    assert faulty is not None
    if name != "wrong object":  # a good mask of another thing looks good
        assert opinion(faulty).failed


# In the graph


@dataclass
class Says:
    """A tool that answers the same each time."""

    parts: list[PartMask] = field(default_factory=list)
    failure: str | None = None
    asked: int = 0

    def load(self) -> None: ...

    def find(self, frame: RgbdFrame, table: TableScene, query: FunctionalQuery) -> list[PartMask]:
        self.asked += 1
        if self.failure:
            raise StageFailure("ground", self.failure, "no such thing here")
        return self.parts


def run(folder: Path, first: Says, second: Says) -> tuple[dict, RunStore]:
    """Both nodes as the graph calls them; the final state."""
    store = RunStore(folder)
    frame, table = scene()
    for name, value in (("query", QUERY), ("frame", frame), ("table", table)):
        store.put(name, value)
    fields = dict.fromkeys(("cell", "arm", "understand", "limits"))
    bench = Workbench(
        **fields,
        store=store,
        grounder=first,
        fallback=second,
        sure_above=0.6,
        present_above=0.4,
        ask_before_motion=True,
        seed=0,
        on_stage=lambda s: None,
        on_record=lambda r: None,
    )
    state = stages.node(bench, "ground", grounding.ground)({})
    if state.get("outcome") is None and state["grounding"] != "sure":
        update = stages.node(bench, "ground", grounding.ground_again)(state)
        state = {**state, **update, "stages": state["stages"] + update["stages"]}
    return state, store


def test_a_sure_and_plausible_mask_needs_no_second(tmp_path: Path) -> None:
    second = Says([part()])
    state, store = run(tmp_path, Says([part()]), second)
    assert (state["grounding"], second.asked) == ("sure", 0)
    assert state["stages"][0]["evidence"]["doubts"] == []
    assert store.has("part_mask")
    assert not store.has("first_answer")


def test_what_the_fitted_model_holds_to_be_absent_is_asked_of_nobody_else(tmp_path: Path) -> None:
    said = part(confidence=0.05, tool="affordance_vlm", evidence={"weights": AffordanceTool().weights}, presence=0.02)
    second = Says([part()])
    state, store = run(tmp_path, Says([said]), second)
    assert (state["outcome"], state["failure"]["code"], second.asked) == ("failure", "grounding.not_found", 0)
    assert state["stages"][0]["evidence"]["presence"] < 0.2
    assert not opinion(replace(said, tool="unfitted")).surely_absent(0.4)
    assert not opinion(replace(said, mask=HAMMER)).surely_absent(0.4)  # a broken mask may be a broken tool


def test_a_sure_but_implausible_mask_is_doubted(tmp_path: Path) -> None:
    state, store = run(tmp_path, Says([part(HAMMER, HAMMER, 0.95)]), Says([part(confidence=0.5, tool="other")]))
    record = state["stages"][1]["evidence"]
    assert [doubt["reason"] for doubt in record["asked_because"]] == ["part_of_object"]
    assert record["decision"]["taken"] == "second"
    assert record["decision"]["agreement_iou"] == pytest.approx(1, abs=1e-3)
    assert (record["first"]["raw_confidence"], record["second"]["calibrated"]) == (0.95, False)
    again = RunStore(tmp_path)
    np.testing.assert_array_equal(again.get("first_answer").mask, HAMMER)
    np.testing.assert_array_equal(again.get("second_answer").mask, HANDLE)
    np.testing.assert_array_equal(again.get("part_mask").mask, HANDLE)


def test_a_doubtful_mask_is_kept_when_the_fallback_finds_nothing(tmp_path: Path) -> None:
    state, store = run(tmp_path, Says([part(confidence=0.5)]), Says(failure="grounding.not_found"))
    assert state.get("outcome") is None
    record = state["stages"][1]["evidence"]
    assert (record["decision"]["taken"], record["decision"]["reason"]) == ("first", "no_second")
    assert record["second_failed"]["code"] == "grounding.not_found"
    assert store.get("part_mask").confidence == 0.5


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (Says([part(confidence=0.3)]), Says(failure="grounding.not_found"), "grounding.not_found"),
        (Says([part(confidence=0.2)]), Says([part(confidence=0.1)]), "grounding.not_found"),
        (Says(failure="grounding.not_found"), Says(failure="grounding.empty_mask"), "grounding.not_found"),
        (Says([part(HAMMER, HAMMER)]), Says(failure="grounding.not_found"), "grounding.implausible"),
        (Says([part()], failure="tool.unavailable"), Says([part()]), "tool.unavailable"),
    ],
)
def test_what_is_not_there_ends_typed(tmp_path: Path, first: Says, second: Says, code: str) -> None:
    state, _ = run(tmp_path, first, second)
    assert (state["outcome"], state["failure"]["code"]) == ("failure", code)
    assert state["stages"][-1]["code"] == code


def test_the_report_shows_both_masks_and_the_reason(tmp_path: Path) -> None:
    state, store = run(tmp_path, Says([part(HAMMER, HAMMER, 0.95)]), Says([part(confidence=0.5, tool="other")]))
    run_json = {"command": "the hammer", "outcome": "planned", "failure": None, "query": QUERY.model_dump()}
    settings = {"cell": "sim", "scene": "bench", "seed": 0}
    write_json(store.folder / "run.json", {**run_json, "versions": {}, "settings": settings})
    page = write_report(store.folder).read_text()
    assert "A second opinion" in page
    assert "share of the object that the part takes" in page
    assert "the first mask is implausible" in page
    assert page.count("mask of the first tool") == page.count("mask of the second tool") == 1
    assert "second: other, taken" in page
    assert (store.folder / "first_overlay.png").is_file()
