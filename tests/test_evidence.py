"""Rules over a run folder: who is blamed, and what clears whom."""

import json

import numpy as np
import pytest

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.geometry import look_at
from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, ObjectProposal, PartMask, RgbdFrame, TableScene, box_of
from affordagent.evaluations.causes.annotation import Annotation
from affordagent.evaluations.causes.evidence import attribute_by_evidence, attribute_case, confidence_of, read_case

H, W = 60, 80
LEFT, RIGHT = np.zeros((2, H, W), bool)
LEFT[20:40, 10:30], RIGHT[20:40, 50:70] = True, True


@pytest.fixture
def run(tmp_path):
    def make(code, stage="verify", outcome="failure", hole=0.0):
        store = RunStore(tmp_path)
        depth = np.full((H, W), 0.7, np.float32)
        depth[20 : 20 + round(20 * hole), 10:30] = 0
        T = look_at([0.5, 0.0, 0.7], [0.5, 0.001, 0.0])
        store.put("frame", RgbdFrame(np.zeros((H, W, 3), np.uint8), depth, CameraIntrinsics(W, H, 60, 60, 40, 30), T))
        proposals = [ObjectProposal(k, m, box_of(m)) for k, m in enumerate((LEFT, RIGHT))]
        store.put("table", TableScene(np.append(T[2, :3], 0.7), np.zeros((H, W), np.float32), proposals))
        store.put("part_mask", PartMask(LEFT, LEFT, 0.9, "test"))
        store.put("query", FunctionalQuery(text="the mug", intent="pick", category="mug", part="handle"))
        failure = None if code is None else {"stage": stage, "code": code, "message": ""}
        (tmp_path / "run.json").write_text(json.dumps({"outcome": outcome, "failure": failure, "settings": {}}))
        return tmp_path

    return make


def blamed(folder, annotation=None, painted=None):
    return attribute_case(read_case(folder, annotation, painted))


def test_a_success_blames_nobody(run):
    found = attribute_by_evidence(run(None, outcome="success"))
    assert (found.by, found.causal, found.code) == ("evidence", (), None)


def test_a_person_may_say_that_a_success_was_none(run):
    folder = run(None, outcome="success")
    found = blamed(folder, Annotation(outcome="failure", kind="wrong_object"), (RIGHT, RIGHT))
    assert found.causal == ("grounding",)
    assert found.code == "grounding.wrong_object"
    assert found.confidence > 0.5


def test_a_painted_mask_that_agrees_clears_grounding(run):
    folder = run("grounding.wrong_part")
    assert blamed(folder).causal == ("grounding",)
    assert "grounding" not in blamed(folder, Annotation(outcome="failure"), (LEFT, LEFT)).shares


def test_another_thing_was_understood(run):
    said = Annotation(outcome="failure", kind="wrong_object", thing="the red kettle")
    found = blamed(run("execution.slip"), said, (LEFT, LEFT))
    assert (found.causal, found.first_failing) == (("language",), "language")
    assert found.code == "language.misread_function"


def test_a_hole_in_the_part(run):
    found = blamed(run("grasp.none", stage="propose", hole=0.8))
    assert found.first_failing == "depth"
    assert found.causal == ("depth",)
    assert found.code == "depth.hole"


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("planning.no_path", "planning"),
        ("execution.protective_stop", "execution"),
        ("execution.start_mismatch", "planning"),
        ("calibration.drift", "calibration"),
        ("language.refused", "language"),
        ("camera.stale", "depth"),
    ],
)
def test_where_it_stopped(run, code, cause):
    found = blamed(run(code, stage="plan"))
    assert found.causal == (cause,)
    assert sum(found.shares.values()) == pytest.approx(1, abs=1e-3)
    assert found.evidence["clues"]


def test_confidence_rises_with_the_lead():
    values = [confidence_of(score) for score in np.linspace(-0.5, 1, 16)]
    assert values == sorted(values)
    assert 0 < values[0] < values[-1] < 1
