"""Every artefact comes back from a run folder as it went in."""

import json
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import rigid
from affordagent.core.run_store import DEPTH_UNIT_M, READERS, WRITERS, RunStore
from affordagent.core.types import (
    Candidate,
    Delivery,
    FunctionalQuery,
    Grasp,
    GraspPlan,
    GraspSet,
    JointTrajectory,
    ObjectProposal,
    PaintedMask,
    PartCloud,
    PartMask,
    RgbdFrame,
    TableScene,
    Verdict,
)

RNG = np.random.default_rng(0)
H, W = 24, 36
MASK = RNG.random((H, W)) > 0.5
POSE = rigid(np.eye(3)[[1, 2, 0]], [0.1, 0.2, 0.3])
TRAJECTORY = JointTrajectory(RNG.normal(size=(5, 6)), np.arange(5.0))
GRASP = Grasp(POSE, 0.03, 0.7, {"clearance": 0.5})
FRAME = RgbdFrame(
    RNG.integers(0, 255, (H, W, 3)).astype(np.uint8),
    (np.round(RNG.uniform(0, 1, (H, W)) / DEPTH_UNIT_M) * DEPTH_UNIT_M).astype(np.float32),
    CameraIntrinsics(W, H, 30.0, 30.0, 17.5, 11.5),
    POSE,
    12.5,
    "test",
)
ARTEFACTS = {
    "query": FunctionalQuery(text="a mug", intent="pick", candidates=[Candidate(name="mug", score=0.9, known=True)]),
    "frame": FRAME,
    "painted": PaintedMask(MASK, FRAME),
    "table": TableScene(
        np.array([0, 0, -1, 0.8]), np.ones((H, W), np.float32), [ObjectProposal(3, MASK, (1, 2, 30, 20))]
    ),
    "part_mask": PartMask(MASK, ~MASK, 0.6, "test", {"scores": [0.1, 0.2]}),
    "first_answer": PartMask(~MASK, MASK, 0.4, "test", {}, 0.7),
    "second_answer": PartMask(MASK, MASK, 0.5, "other"),
    "destination": PartMask(MASK, MASK, 0.8, "open shape", {"considered": [1]}),
    "kept_free": PartMask(MASK, ~MASK, 0.6, "test"),
    "cloud": PartCloud(*RNG.normal(size=(4, 7, 3)), 0.01, RNG.normal(size=3), 0.9),
    "grasps": (GraspSet.of([GRASP, GRASP], backend="antipodal"), POSE),
    "plan": GraspPlan(GRASP, 0, 0.05, TRAJECTORY, TRAJECTORY, TRAJECTORY, [{"grasp_index": 1, "code": "x"}]),
    "after": RgbdFrame(
        RNG.integers(0, 255, (H, W, 3)).astype(np.uint8),
        np.ones((H, W), np.float32),
        CameraIntrinsics(W, H, 31.0, 30.0, 17.5, 11.5),
        POSE,
        13.5,
        "test",
    ),
    "sensed_verdict": Verdict(True, None, {"lifted": True}, {"lift_m": 0.2}, "sensors"),
    "verdict": Verdict(False, "execution.drop", {"lifted": False}, {"lift_m": 0.01}, "simulator"),
}


def assert_same(a, b):
    assert type(a) is type(b)
    if is_dataclass(a):
        for f in fields(a):
            assert_same(getattr(a, f.name), getattr(b, f.name))
    elif isinstance(a, np.ndarray):
        np.testing.assert_allclose(a, b, atol=1e-5)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        assert_same(list(a.values()), list(b.values()))
    else:
        assert a == b


def test_every_artefact_has_a_writer_and_a_reader():
    assert set(WRITERS) == set(READERS) == set(ARTEFACTS)


@pytest.mark.parametrize("name", sorted(ARTEFACTS))
def test_round_trip(tmp_path, name):
    RunStore(tmp_path).put("frame", ARTEFACTS["frame"])  # grasps are read with the frame's pose
    RunStore(tmp_path).put(name, ARTEFACTS[name])
    assert_same(ARTEFACTS[name], RunStore(tmp_path).get(name))


@pytest.mark.parametrize("lower", [TRAJECTORY, None], ids=["place", "hand over"])
def test_a_delivery_comes_back_too(tmp_path, lower):
    there = Delivery("hand_over" if lower is None else "place", POSE, 2, TRAJECTORY, lower, TRAJECTORY, 0.04)
    plan = replace(ARTEFACTS["plan"], delivery=there)
    RunStore(tmp_path).put("plan", plan)
    assert_same(plan, RunStore(tmp_path).get("plan"))


def test_a_grasp_read_back_is_a_rotation_to_the_last_digit(tmp_path):
    turned = rigid(Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix(), [0.4, 0.1, 0.05])
    RunStore(tmp_path).put("frame", ARTEFACTS["frame"])
    RunStore(tmp_path).put("grasps", (GraspSet.of([replace(GRASP, T_base_tcp=turned)]), POSE))
    ((grasp,), _) = RunStore(tmp_path).get("grasps")
    R = grasp.T_base_tcp[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-14)  # inverse kinematics refuses less
    np.testing.assert_allclose(grasp.T_base_tcp, turned, atol=1e-6)


def test_grasps_json_holds_both_frames(tmp_path):
    RunStore(tmp_path).put("grasps", ARTEFACTS["grasps"])
    file = json.loads((tmp_path / "grasps.json").read_text())
    assert file["backend"] == "antipodal"
    record, _ = file["grasps"]
    np.testing.assert_allclose(POSE @ np.array(record["T_camera_tcp"]), record["T_base_tcp"], atol=1e-5)


def test_what_was_never_made_is_named(tmp_path):
    with pytest.raises(AffordAgentError, match=r"cloud\.npz"):
        RunStore(tmp_path).get("cloud")


def test_events_are_json_lines(tmp_path):
    store = RunStore(tmp_path / "run")
    store.event("start", command="a", value=np.float32(0.5))
    store.event("end", outcome="success")
    lines = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "end"]
    assert lines[0]["value"] == 0.5
