"""The command line as a user types it, on the simulated cell and on recorded frames."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from affordagent.agent.cli import main
from affordagent.core.types import OUTCOMES, STAGES

NAIL = "I need something to drive a nail into the wall"


def run(capsys, *arguments: str) -> tuple[int, dict]:
    """Exit code and the JSON object of `affordagent run`."""
    code = main(["run", *arguments, "--json", "--no-report"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1, "--json prints one line on stdout and nothing else"
    result = json.loads(out)
    assert set(result) == {"outcome", "query", "stages", "failure", "run_dir"}
    assert result["outcome"] in OUTCOMES
    for stage in result["stages"]:
        assert set(stage) == {"stage", "status", "code", "duration_s", "message"}
        assert stage["stage"] in STAGES
    folder = Path(result["run_dir"])
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["start", "end"]
    assert json.loads((folder / "run.json").read_text())["outcome"] == result["outcome"]
    assert not (folder / "traceback.txt").exists()
    return code, result


def write_frame(prefix: Path, depth_mm: np.ndarray | None = None, **camera: object) -> None:
    """A flat grey table 0.8 m below a camera that looks straight down, with a red box on it."""
    color = np.full((240, 320, 3), 128, np.uint8)
    color[100:140, 140:200] = (30, 30, 200)
    depth = np.full((240, 320), 800, np.uint16)
    depth[100:140, 140:200] = 760
    cv2.imwrite(f"{prefix}_color.png", color)
    cv2.imwrite(f"{prefix}_depth.png", depth if depth_mm is None else depth_mm)
    facts = {"width": 320, "height": 240, "fx": 300.0, "fy": 300.0, "cx": 159.5, "cy": 119.5, "depth_unit_m": 0.001}
    Path(f"{prefix}_camera.json").write_text(json.dumps({**facts, **camera}))


DOWN = [[0, -1, 0, 0.45], [-1, 0, 0, 0.0], [0, 0, -1, 0.8], [0, 0, 0, 1]]
FAR = [[0, -1, 0, 2.45], [-1, 0, 0, 0.0], [0, 0, -1, 0.8], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("depth", "camera", "stage", "code"),
    [
        (np.full((120, 160), 800, np.uint16), {}, "look", "depth.misaligned"),
        (np.zeros((240, 320), np.uint16), {}, "look", "depth.hole"),
        (None, {"fx": 0.0}, "look", "calibration.intrinsics"),
        (None, {"width": 640, "height": 480}, "look", "calibration.intrinsics"),
        (None, {"T_base_camera": [[float("nan")] * 4] * 4}, "look", "calibration.pose"),
        (np.full((240, 320), 800, np.uint16), {"T_base_camera": DOWN}, "look", "grounding.not_found"),
    ],
)
def test_bad_frames_fail_by_name_and_keep_the_run_folder(tmp_path, capsys, depth, camera, stage, code):
    write_frame(tmp_path / "bad", depth, **camera)
    exit_code, result = run(
        capsys, "pick up the box", "--cell", f"frame:{tmp_path}/bad", "--out", str(tmp_path / "run")
    )
    assert exit_code == 1
    assert (result["failure"]["stage"], result["failure"]["code"]) == (stage, code)
    assert len(result["failure"]["message"]) > 20


def test_missing_files_are_named(tmp_path, capsys):
    code, result = run(capsys, "the box", "--cell", f"frame:{tmp_path}/nowhere", "--out", str(tmp_path / "run"))
    assert (code, result["failure"]["code"]) == (1, "camera.no_frame")
    assert "nowhere_color.png" in result["failure"]["message"]


def test_out_of_reach(tmp_path, capsys):
    write_frame(tmp_path / "far", T_base_camera=FAR)
    code, result = run(capsys, "pick up the box", "--cell", f"frame:{tmp_path}/far", "--out", str(tmp_path / "run"))
    assert code == 1
    assert result["failure"]["code"] == "grasp.unreachable"
    assert "reach" in result["failure"]["message"]


@pytest.mark.parametrize(
    ("text", "exit_code", "code"),
    [
        ("", 1, "language.empty"),
        ("hammer " * 1500, 1, "language.too_long"),
        ("stop", 3, "language.stop"),
        ("What is a ratchet for?", 3, "language.no_motion_wanted"),
        ("the other one", 4, None),
        ("give me that thing over there", 4, None),
    ],
)
def test_texts_that_must_not_move_the_robot(tmp_path, capsys, text, exit_code, code):
    write_frame(tmp_path / "box")
    got, result = run(capsys, text, "--cell", f"frame:{tmp_path}/box", "--out", str(tmp_path / "run"))
    assert got == exit_code
    assert [s["stage"] for s in result["stages"]] == ["understand"]
    if code:
        assert result["failure"]["code"] == code


def test_a_used_run_folder_is_not_overwritten(tmp_path, capsys):
    write_frame(tmp_path / "box")
    arguments = ["run", "stop", "--cell", f"frame:{tmp_path}/box", "--out", str(tmp_path / "run"), "--no-report"]
    assert main(arguments) == 3
    before = (tmp_path / "run" / "events.jsonl").read_text()
    assert main(arguments) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "run" / "events.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cell", "moon"], "unknown cell 'moon'"),
        (["--scene", "benhc"], "bench"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_bad_usage_is_exit_2(tmp_path, capsys, arguments, says):
    assert main(["run", "the mug", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_real_frame_ends_planned(tmp_path, capsys, real_frames):
    text = "pick up the red mug by its handle"
    code, result = run(capsys, text, "--cell", f"frame:{real_frames}/red_mug", "--out", str(tmp_path / "run"))
    assert (code, result["outcome"]) == (0, "planned"), result["failure"]
    folder = Path(result["run_dir"])
    mask = cv2.imread(str(folder / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (480, 640)
    assert set(np.unique(mask)) == {0, 255}
    on_mug = cv2.imread(str(real_frames / "red_mug_object_mask.png"), cv2.IMREAD_UNCHANGED) > 0
    assert (on_mug & (mask > 0)).sum() > 0.8 * (mask > 0).sum(), "the mask must lie on the mug"
    grasps = json.loads((folder / "grasps.json").read_text())["grasps"]
    assert grasps
    assert {"T_base_tcp", "T_camera_tcp", "width_m", "score"} <= set(grasps[0])
    look = next(s for s in result["stages"] if s["stage"] == "look")
    assert "assumed" in look["message"] or "assum" in look["message"]


def test_what_is_not_there_is_said(tmp_path, capsys, real_frames):
    cell = f"frame:{real_frames}/cheezit"
    code, result = run(capsys, "hand me the hammer", "--cell", cell, "--out", str(tmp_path / "run"))
    assert (code, result["failure"]["code"]) == (1, "grounding.not_found")
    assert "hammer" in result["failure"]["message"]


def test_nothing_on_the_simulated_table(tmp_path, capsys):
    code, result = run(capsys, NAIL, "--scene", "empty", "--out", str(tmp_path / "run"))
    assert (code, result["failure"]["code"]) == (1, "grounding.not_found")


def test_from_a_sentence_to_a_verified_grasp(tmp_path, capsys):
    code, result = run(capsys, NAIL, "--out", str(tmp_path / "run"))
    assert (code, result["outcome"]) == (0, "success"), result["failure"]
    assert result["query"]["category"] == "hammer"
    assert [s["stage"] for s in result["stages"]][-1] == "verify"


def test_declined_motion_does_not_move(tmp_path, capsys):
    code, result = run(capsys, NAIL, "--confirm", "--out", str(tmp_path / "run"))
    assert (code, result["failure"]["code"]) == (3, "execution.declined")
    assert "execute" not in [s["stage"] for s in result["stages"]]


def test_understand_prints_the_query(capsys, tmp_path):
    assert main(["understand", "hand me the pan, it's hot", "--json"]) == 0
    query = json.loads(capsys.readouterr().out)
    assert {"intent", "category", "candidates", "part", "needs_clarification", "constraints"} <= set(query)
    assert (query["category"], query["part"]) == ("pot or pan", "handle")
    file = tmp_path / "texts.txt"
    file.write_text("the mug\n\nbring me the kettle\n")
    assert main(["understand", "--file", str(file)]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["category"] == "mug"
    assert second["category"] is None
    assert second["object_words"] == "kettle"
