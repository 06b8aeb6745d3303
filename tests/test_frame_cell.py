"""Recorded frames: the good one, and every bad input with the words that say what to mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import look_at
from affordagent.robot.frame_cell import FrameCell

W, H = 64, 48
CAMERA: dict[str, Any] = {
    "width": W, "height": H, "fx": 60.0, "fy": 60.0, "cx": 31.5, "cy": 23.5, "depth_unit_m": 0.001, "depth_invalid": 0
}  # fmt: skip


def write(folder: Path, name: str = "mug", depth: np.ndarray | None = None, **changes: Any) -> Path:
    """A frame's three files; a change to None leaves the key out."""
    camera = {k: v for k, v in {**CAMERA, **changes}.items() if v is not None}
    color = np.zeros((H, W, 3), np.uint8)
    color[..., 2] = 200  # BGR: red
    cv2.imwrite(str(folder / f"{name}_color.png"), color)
    cv2.imwrite(str(folder / f"{name}_depth.png"), np.full((H, W), 650, np.uint16) if depth is None else depth)
    (folder / f"{name}_camera.json").write_text(json.dumps(camera))
    return folder / name


def failure_of(prefix: Path) -> StageFailure:
    with pytest.raises(StageFailure) as caught:
        FrameCell(prefix).look()
    assert caught.value.stage == "look"
    return caught.value


def test_a_frame_is_read_in_metres_and_rgb(tmp_path: Path) -> None:
    depth = np.full((H, W), 650, np.uint16)
    depth[0, 0], depth[0, 1] = 0, 65535
    pose = look_at((0.9, 0, 0.7), (0.45, 0, 0))
    with FrameCell(write(tmp_path, depth=depth, depth_invalid=65535, T_base_camera=pose.tolist())) as cell:
        frame = cell.look()
        assert cell.arm is None
        assert not cell.is_hardware
    assert frame.color[5, 5].tolist() == [200, 0, 0]
    assert frame.depth_m[0, 0] == frame.depth_m[0, 1] == 0
    assert frame.depth_m[20, 20] == pytest.approx(0.65)
    assert frame.T_base_camera == pytest.approx(pose)
    assert frame.source.startswith("frame:")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"fx": 0}, "calibration.intrinsics", "fx = 0, must be a finite number above 0"),
        ({"fy": float("nan")}, "calibration.intrinsics", "fy = nan"),
        ({"fx": "wide"}, "calibration.intrinsics", "fx = 'wide'"),
        ({"cx": None}, "calibration.intrinsics", "cx is missing"),
        ({"depth_unit_m": None}, "calibration.intrinsics", "depth_unit_m is missing"),
        ({"width": 128, "height": 96}, "calibration.intrinsics", "for 128x96 but the picture is 64x48"),
        ({"cx": 63.0}, "calibration.intrinsics", "principal point (63.0, 23.5)"),
        ({"cx": 310.0, "cy": 236.0}, "calibration.intrinsics", "another resolution"),
        ({"fx": 200.0}, "calibration.intrinsics", "fx / fy = 3.33"),
        ({"fx": 600.0, "fy": 600.0}, "calibration.intrinsics", "field of view is 6.1 degrees"),
        ({"fx": 5.0, "fy": 5.0}, "calibration.intrinsics", "field of view is 162"),
        ({"T_base_camera": [[1, 0], [0, 1]]}, "calibration.pose", "must be a 4x4 matrix"),
        ({"T_base_camera": np.full((4, 4), np.inf).tolist()}, "calibration.pose", "NaN or infinity"),
        ({"T_base_camera": np.diag([1.0, 1, -1, 1]).tolist()}, "calibration.pose", "right-handed"),
        ({"depth_unit_m": 1.0}, "calibration.depth_unit", "middle depth is 650 m"),
        ({"depth_unit_m": 1e-6}, "calibration.depth_unit", "correct depth_unit_m"),
    ],
)
def test_bad_calibration_is_refused(tmp_path: Path, changes: dict[str, Any], code: str, words: str) -> None:
    failure = failure_of(write(tmp_path, **changes))
    assert failure.code == code
    assert words in failure.message


@pytest.mark.parametrize(
    ("depth", "code", "words"),
    [
        (np.zeros((H, W), np.uint16), "depth.hole", "no depth at all"),
        (np.full((H // 2, W // 2), 650, np.uint16), "depth.misaligned", "the depth is 32x24 but the colour is 64x48"),
        (np.full((H, W), 65, np.uint8), "calibration.depth_unit", "uint8 with 1 channel"),
        (np.full((H, W, 3), 650, np.uint16), "calibration.depth_unit", "uint16 with 3 channel"),
    ],
)
def test_bad_depth_is_refused(tmp_path: Path, depth: np.ndarray, code: str, words: str) -> None:
    failure = failure_of(write(tmp_path, depth=depth))
    assert failure.code == code
    assert words in failure.message


@pytest.mark.parametrize("ending", ["color.png", "depth.png", "camera.json"])
def test_missing_files_are_named(tmp_path: Path, ending: str) -> None:
    prefix = write(tmp_path)
    (tmp_path / f"mug_{ending}").unlink()
    failure = failure_of(prefix)
    assert failure.code == "camera.no_frame"
    assert f"mug_{ending} does not exist" in failure.message


def test_a_misspelt_name_is_put_right(tmp_path: Path) -> None:
    write(tmp_path, "red_mug")
    assert "did you mean frame:" in failure_of(tmp_path / "redmug").message
    assert "red_mug" in failure_of(tmp_path / "xyz").message
    assert "does not exist" in failure_of(tmp_path / "nowhere" / "red_mug").message


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_unreadable_pictures_are_named(tmp_path: Path, content: bytes) -> None:
    prefix = write(tmp_path)
    (tmp_path / "mug_color.png").write_bytes(content)
    failure = failure_of(prefix)
    assert failure.code == "camera.no_frame"
    assert "cannot be read as a picture" in failure.message


@pytest.mark.parametrize("text", ["{", "[1, 2]", '"camera"'])
def test_bad_json_is_named(tmp_path: Path, text: str) -> None:
    prefix = write(tmp_path)
    (tmp_path / "mug_camera.json").write_text(text)
    failure = failure_of(prefix)
    assert failure.code == "calibration.intrinsics"
    assert "mug_camera.json" in failure.message
    assert "JSON" in failure.message
