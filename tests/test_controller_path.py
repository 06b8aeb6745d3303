"""The whole way of a grasp: driver, ur_rtde, emulated controller, MuJoCo, and the truth about what happened."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.evaluations import controller_path
from affordagent.evaluations.controller_path import Study, run, summarise
from affordagent.evaluations.statistics import mcnemar
from affordagent.robot.cameras.emulated import EmulatedCamera
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.emulator.truth import contacts_of
from affordagent.robot.interface import LOOK_Q, READY_Q
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.scene import sample_scene

HOST = f"127.0.22.{1 + int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])}"
SEED = 1


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorClient]:
    with start_emulator(HOST, scene="mixed", seed=SEED) as running:
        yield running.admin


def looked(camera: EmulatedCamera) -> np.ndarray:
    try:
        return camera.look().color
    except AffordAgentError as error:
        if "OpenGL" not in str(error):
            raise
        pytest.skip(str(error))


def test_the_camera_sees_what_the_emulator_has(emulator: EmulatorClient) -> None:
    with EmulatedCamera(HOST) as camera, SimCell(sample_scene("mixed", SEED)) as cell:
        waiting = looked(camera)
        frame, direct = camera.look(), cell.look()
        assert (frame.color != direct.color).mean() < 0.01  # objects creep by micrometres while time passes there
        assert (np.abs(frame.depth_m - direct.depth_m) > 1e-3).mean() < 0.001
        np.testing.assert_array_equal(frame.T_base_camera, direct.T_base_camera)
        emulator.place(READY_Q)
        assert (camera.look().color != waiting).mean() > 0.02, "the arm is in the picture now"
        emulator.place(LOOK_Q)


def test_contacts_by_phase(emulator: EmulatorClient) -> None:
    emulator.scene("mixed", SEED)
    assert contacts_of(emulator) == {}
    emulator.phase("first")
    emulator.phase("second")
    log = contacts_of(emulator)
    assert list(log) == ["first", "second"]
    assert log["first"].pads_n == {}
    assert "tcp" in log["second"].T_base_body
    assert len(log["second"].T_base_body) == 1 + len(sample_scene("mixed", SEED).objects)


def test_a_scene_changes_while_it_runs(emulator: EmulatorClient) -> None:
    with EmulatedCamera(HOST) as camera:
        before = looked(camera)
        emulator.scene("empty", 0)
        assert (camera.look().color != before).mean() > 0.05
        with pytest.raises(AffordAgentError, match="nowhere"):
            emulator.scene("nowhere", 0)
        assert emulator.state()["scene"] == {"name": "empty", "seed": 0}
        np.testing.assert_allclose(emulator.state()["q"], LOOK_Q, atol=1e-3)


def test_a_camera_without_a_scene_says_so() -> None:
    host = HOST.replace("127.0.22.", "127.0.23.")
    with EmulatedCamera(host) as camera:
        with pytest.raises(StageFailure, match=f"no emulator at {host}") as nobody:
            camera.look()
        with start_emulator(host), pytest.raises(StageFailure, match="without a scene") as plain:
            camera.look()
        with pytest.raises(AffordAgentError, match="not looked yet"):
            _ = camera.view
    assert nobody.value.code == plain.value.code == "camera.no_frame"


def test_a_grasp_through_the_controller_ends_as_without_it(tmp_path: Path) -> None:
    host, file = HOST.replace("127.0.22.", "127.0.24."), tmp_path / "trials.jsonl"
    study = Study("mixed", range(SEED, SEED + 1), repeats=1, host=host)
    try:
        rows = {row["way"]: row for row in run(study, file)}
    except AffordAgentError as error:
        if "OpenGL" not in str(error):
            raise
        pytest.skip(str(error))
    direct, through = rows["direct"], rows["controller"]
    assert through["success"], through
    assert through["checks"] == direct["checks"]
    assert through["measured"]["slip_m"] == pytest.approx(direct["measured"]["slip_m"], abs=1e-3)
    assert through["measured"]["lift_m"] == pytest.approx(direct["measured"]["lift_m"], abs=2e-3)
    np.testing.assert_allclose(through["final_q"], direct["final_q"], atol=3e-3)
    assert through["duration_s"] == pytest.approx(direct["duration_s"], abs=3.0)
    assert run(study, file) == list(rows.values()), "nothing is run twice"
    assert len(file.read_text().splitlines()) == 3


def row(seed: int, way: str, code: str | None, slip_m: float = 0.001) -> controller_path.Row:
    measured = {"slip_m": slip_m, "lift_m": 0.2, "rotation_rad": 0.0}
    common = {"seed": seed, "way": way, "success": code is None, "code": code}
    return common | {"measured": measured, "final_q": [0.0] * 6, "duration_s": 10.0}


def test_summary() -> None:
    rows = [row(s, "direct", None) for s in range(6)] + [row(s, "nudged-0", None, 0.002) for s in range(6)]
    rows += [row(s, "controller", "execution.slip" if s < 2 else None, 0.004) for s in range(5)]
    rows += [{"seed": 5, "way": "controller", "success": False, "code": "execution.comms", "failure": {}}]
    rows += [{"seed": 6, "way": "plan", "success": False, "code": "planning.ik"}]
    summary = json.loads(json.dumps(summarise(rows)))
    assert (summary["scenes"], summary["no_plan"]) == (7, 1)
    through = summary["controller"]
    assert (through["success"]["k"], through["success"]["n"]) == (3, 6)
    assert (through["only_direct_succeeded"], through["only_this_succeeded"]) == (3, 0)
    assert through["mcnemar_p"] == pytest.approx(0.25)
    assert through["other_outcome"] == [0, 1, 5]
    assert through["differences"]["slip_m"] == {"median": pytest.approx(0.003), "max": pytest.approx(0.003)}
    assert summary["nudged"]["differences"]["slip_m"]["median"] == pytest.approx(0.001)


def test_mcnemar() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == pytest.approx(1.0)
    assert mcnemar(0, 6) == mcnemar(6, 0) == pytest.approx(2 / 2**6)


@pytest.mark.slow
@pytest.mark.parametrize("grasps", ["best", "worst"])
def test_outcomes_agree(tmp_path: Path, grasps: controller_path.Grasps) -> None:
    """Where the simulated arm's own noise does not change the outcome, neither does the controller."""
    study = Study("mixed", range(14, 20), grasps, repeats=2, host=HOST.replace("127.0.22.", "127.0.25."))
    rows = run(study, tmp_path / "trials.jsonl")
    compared = 0
    for seed in study.seeds:
        codes = {r["way"]: r["code"] for r in rows if r["seed"] == seed and r["way"] != "plan"}
        if len(codes) == len(study.ways) and len({codes[way] for way in study.ways[:-1]}) == 1:
            assert codes["controller"] == codes["direct"], (seed, codes)
            compared += 1
    assert compared >= 3
