"""Calibration against a known truth: the maths, the board, the file and the folder of views."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.geometry import Array, invert, rigid, rotation_angle, transform_points
from affordagent.robot.arms import flange_pose
from affordagent.robot.calibration.board import Board, board_pose
from affordagent.robot.calibration.drawn import CAMERA, T_MOUNT_CAMERA, BoardCamera, board_in_camera, joints, views
from affordagent.robot.calibration.file import Calibration, CameraFacts, Residuals, load_calibration, versions
from affordagent.robot.calibration.hand_eye import Kind, solve, solve_ax_xb
from affordagent.robot.calibration.picture import save_picture
from affordagent.robot.calibration.solving import KINDS, calibrate
from affordagent.robot.calibration.tcp import solve_tip
from affordagent.robot.calibration.views import Pose, ViewFolder

BOARD = Board()


def apart(T: Array, U: Array) -> tuple[float, float]:
    """Millimetres and degrees."""
    E = invert(T) @ U
    return 1000 * float(np.linalg.norm(E[:3, 3])), float(np.degrees(rotation_angle(E[:3, :3])))


def poor(run: Any) -> str:
    with pytest.raises(StageFailure) as caught:
        run()
    assert (caught.value.stage, caught.value.code) == ("look", "calibration.poor")
    return caught.value.message


# ---- the closed form ------------------------------------------------------------------------------------------------


@st.composite
def transforms(draw: st.DrawFn, least_rad: float = 0.0) -> Array:
    axis = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)))
    turn = axis / np.linalg.norm(axis) * draw(st.floats(least_rad, 2.5))
    return rigid(Rotation.from_rotvec(turn).as_matrix(), draw(st.tuples(*[st.floats(-1, 1)] * 3)))


@settings(max_examples=60)
@given(transforms(), st.lists(transforms(least_rad=0.2), min_size=2, max_size=6))
def test_exact_motions_give_x_exactly(X: Array, motions: list[Array]) -> None:
    A = np.array(motions)
    axes = Rotation.from_matrix(A[:, :3, :3]).as_rotvec()
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    if np.linalg.svd(axes, compute_uv=False)[1] < 0.3:
        return  # about one axis only: nothing to be solved
    found = solve_ax_xb(A, invert(X) @ A @ X)
    assert found == pytest.approx(X, abs=1e-6)


# ---- the solution ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noisy_corners_give_the_camera_within_a_millimetre(kind: Kind, seed: int) -> None:
    found = solve(views(kind, 15, seed, noise_px=0.3), kind, CAMERA, BOARD.centre_m)
    off_mm, off_deg = apart(T_MOUNT_CAMERA[kind], found.T_mount_camera)
    assert off_mm < 1.0
    assert off_deg < 0.1
    assert found.rms_px == pytest.approx(0.3 * np.sqrt(2), rel=0.1)
    assert not found.outliers
    assert off_mm < 4 * found.spread_mm  # what it says of itself is true
    assert off_deg < 4 * found.spread_deg
    assert found.consistency_mm < 2


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_views_are_found_and_named(kind: Kind) -> None:
    made = views(kind, 16, 4)
    shifted = made[3].T_base_flange.copy()
    shifted[:3, 3] += [0.02, 0, 0.01]
    made[3] = replace(made[3], T_base_flange=shifted)  # the arm had moved on
    made[9] = replace(made[9], T_base_flange=made[1].T_base_flange)  # the pose of another view
    pixels = made[12].pixels + [6.0, 0]  # blurred to one side
    made[12] = replace(made[12], pixels=pixels, T_camera_board=board_pose(made[12].points_m, pixels, CAMERA)[0])
    found = solve(made, kind, CAMERA, BOARD.centre_m)
    assert set(found.outliers) == {"view_003", "view_009", "view_012"}
    off_mm, off_deg = apart(T_MOUNT_CAMERA[kind], found.T_mount_camera)
    assert off_mm < 1.0
    assert off_deg < 0.1


def test_too_few_views_and_too_little_rotation_are_refused() -> None:
    few = poor(lambda: solve(views("eye_in_hand", 7, 0), "eye_in_hand", CAMERA, BOARD.centre_m))
    assert "7 views" in few
    assert "at least 8" in few
    flat = poor(lambda: solve(views("eye_in_hand", 15, 0, tilt_rad=0.02), "eye_in_hand", CAMERA, BOARD.centre_m))
    assert "at least 15 about two" in flat
    about_one_axis = [v for v in views("eye_to_hand", 12, 0)]
    turn = [rigid(Rotation.from_euler("z", a, degrees=True).as_matrix(), [0.4, 0, 0.3]) for a in range(0, 60, 5)]
    about_one_axis = [replace(v, T_base_flange=T) for v, T in zip(about_one_axis, turn, strict=True)]
    assert "turned by 55, 0 and 0" in poor(lambda: solve(about_one_axis, "eye_to_hand", CAMERA, BOARD.centre_m))


@pytest.mark.parametrize(("true", "tried"), [KINDS, KINDS[::-1]])
def test_views_of_the_other_kind_do_not_pass(true: Kind, tried: Kind) -> None:
    assert "do not agree" in poor(lambda: solve(views(true, 15, 0), tried, CAMERA, BOARD.centre_m))


def test_corners_that_wander_are_called_so() -> None:
    """Noise of 3 px: the reprojection error says so."""
    found = solve(views("eye_to_hand", 15, 0, noise_px=3.0), "eye_to_hand", CAMERA, BOARD.centre_m)
    assert found.rms_px > 3
    assert found.consistency_mm > 5


# ---- the tip --------------------------------------------------------------------------------------------------------


def touches(count: int, tip_m: Array, noise_mm: float = 0.0) -> Array:
    rng, point = np.random.default_rng(0), np.array([-0.4, 0.1, 0.05])
    R = Rotation.from_euler("xyz", rng.uniform(-0.6, 0.6, (count, 3)) + [np.pi, 0, 0]).as_matrix()
    at = point + rng.normal(0, noise_mm / 1000, (count, 3))
    return np.array([rigid(r, a - r @ tip_m) for r, a in zip(R, at, strict=True)])


def test_the_tip_comes_from_four_touches() -> None:
    tip_m = np.array([0.004, -0.003, 0.174])
    assert solve_tip(touches(4, tip_m)).position_m == pytest.approx(tip_m, abs=1e-9)
    noisy = solve_tip(touches(6, tip_m, noise_mm=0.5))
    assert noisy.position_m == pytest.approx(tip_m, abs=0.0025)
    assert 0.1 < noisy.rms_mm < 1.5


def test_bad_touches_are_refused() -> None:
    tip_m = np.array([0, 0, 0.174])
    assert "3 touches" in poor(lambda: solve_tip(touches(3, tip_m)))
    same = np.repeat(touches(1, tip_m), 5, axis=0)
    assert "at least 15 about two axes" in poor(lambda: solve_tip(same))
    moved = touches(6, tip_m)
    moved[4, :3, 3] += 0.03
    assert "touch 5 is the worst" in poor(lambda: solve_tip(moved))


# ---- the board ------------------------------------------------------------------------------------------------------


def test_the_page_has_its_true_size(tmp_path: Path) -> None:
    BOARD.save_page(tmp_path / "board.pdf")
    box = re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", (tmp_path / "board.pdf").read_bytes())
    assert box
    assert [float(v) / 72 * 25.4 for v in box.groups()] == pytest.approx([210, 297], abs=0.1)
    BOARD.save_page(tmp_path / "board.png")
    page = cv2.imread(str(tmp_path / "board.png"))
    assert page is not None
    sighting = BOARD.find(page)
    assert sighting is not None
    assert len(sighting.ids) == 24
    sides_mm = np.linalg.norm(np.diff(sighting.pixels[:4], axis=0), axis=1) / 20
    assert sides_mm == pytest.approx([35.0] * 3, abs=0.05)


def test_a_board_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for facts, words in (
        ({"columns": 3}, "at least 4 x 4"),
        ({"marker_m": 0.034}, "between 0.4 and 0.9"),
        ({"dictionary": "DICT_9"}, "none of cv2.aruco"),
        ({"columns": 20, "rows": 20, "square_m": 0.009, "marker_m": 0.007}, "has 50 markers"),
    ):
        with pytest.raises(ValueError, match=words):
            Board(**facts)  # type: ignore[arg-type]
    with pytest.raises(AffordAgentError, match="room for"):
        Board(square_m=0.05).save_page(tmp_path / "board.pdf")
    with pytest.raises(AffordAgentError, match="must end with"):
        BOARD.save_page(tmp_path / "board.jpg")


def test_the_board_is_found_where_it_is() -> None:
    camera = BoardCamera()
    for q in joints("eye_in_hand", 3, 8):
        T = board_in_camera("eye_in_hand", q)
        sighting = BOARD.find(camera.look(T).color)
        assert sighting is not None
        off = sighting.pixels - CAMERA.project(transform_points(T, BOARD.corners_m[sighting.ids]))
        assert np.abs(off.mean(0)).max() < 0.03  # no half pixel lost anywhere
        assert np.sqrt((off**2).sum(1).mean()) < 0.15
    assert BOARD.find(np.full((480, 640, 3), 90, np.uint8)) is None


# ---- a folder of rendered views -------------------------------------------------------------------------------------


def filled(folder: Path, kind: Kind, count: int = 12, **camera: Any) -> ViewFolder:
    views_of = ViewFolder.start(folder, BOARD, "UR5e", "123")
    board_camera = BoardCamera(**camera)
    for q in joints(kind, count, 3):
        views_of.add(board_camera.look(board_in_camera(kind, q)), Pose(q, flange_pose("UR5e", q), 0.0))
    return views_of


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> ViewFolder:
    return filled(tmp_path_factory.mktemp("views") / "in_hand", "eye_in_hand", depth_scale=1.01)


def test_pictures_become_a_calibration(rendered: ViewFolder, tmp_path: Path) -> None:
    solved = calibrate(rendered)
    assert solved.hand_eye.kind == "eye_in_hand"  # found out, not told
    assert apart(T_MOUNT_CAMERA["eye_in_hand"], solved.hand_eye.T_mount_camera)[0] < 0.5
    r = solved.calibration.residuals
    assert not r.faults
    assert r.rms_px < 0.2
    assert r.depth_scale == pytest.approx(1.01, abs=0.001)
    assert r.depth_offset_mm == pytest.approx(6, abs=1)  # 1 % of 0.6 m
    assert solved.kinematics_mm < 0.01
    save_picture(solved, rendered, tmp_path / "calibration.png")
    picture = cv2.imread(str(tmp_path / "calibration.png"))
    assert picture is not None
    assert picture.shape[1] > 1000
    solved.calibration.save(tmp_path / "calibration.json")
    again = load_calibration(tmp_path / "calibration.json", 90)
    assert again == solved.calibration
    assert again.camera.serial == "123"


def test_intrinsics_can_be_estimated(rendered: ViewFolder) -> None:
    solved = calibrate(rendered, "eye_in_hand", estimate_intrinsics=True)
    assert solved.calibration.device is not None
    assert solved.calibration.camera.fx == pytest.approx(CAMERA.fx, rel=0.01)
    assert solved.calibration.device.fx == CAMERA.fx


def test_views_without_a_board_are_named(rendered: ViewFolder, tmp_path: Path) -> None:
    folder = ViewFolder.start(tmp_path / "views", BOARD, "UR5e", "123")
    for name in rendered.names[:8]:
        folder.add(rendered.frame(name), rendered.pose(name))
    dark = rendered.frame(rendered.names[8])
    folder.add(replace(dark, color=dark.color // 40), rendered.pose(rendered.names[8]))
    assert list(calibrate(folder, "eye_in_hand").unusable) == ["view_008"]
    for ending in ("color.png", "depth.png", "camera.json", "robot.json"):
        (folder.folder / f"view_000_{ending}").unlink()
    message = poor(lambda: calibrate(folder, "eye_in_hand"))
    assert "7 views" in message
    assert "view_008: too little of the board" in message


def test_another_arm_than_the_settings_say_is_noticed(rendered: ViewFolder, tmp_path: Path) -> None:
    folder = ViewFolder.start(tmp_path / "views", BOARD, "UR10e", "123")
    for name in rendered.names:
        folder.add(rendered.frame(name), rendered.pose(name))
    assert "names another arm" in poor(lambda: calibrate(folder))


def test_a_folder_stays_of_one_board_arm_and_camera(rendered: ViewFolder) -> None:
    with pytest.raises(AffordAgentError, match="choose another folder"):
        ViewFolder.start(rendered.folder, BOARD, "UR5e", "999")
    with pytest.raises(AffordAgentError, match="calibrate collect"):
        ViewFolder.open(rendered.folder / "nothing")


# ---- the file -------------------------------------------------------------------------------------------------------

GOOD = Residuals(
    rms_px=0.3, max_px=1.0, consistency_mm=0.8, consistency_deg=0.3, spread_mm=0.2, spread_deg=0.02,
    rotation_deg=(60.0, 40.0, 30.0), views=15,
)  # fmt: skip
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def calibration(**changes: Any) -> Calibration:
    facts: dict[str, Any] = {
        "date": NOW - timedelta(days=3),
        "kind": "eye_in_hand",
        "T": T_MOUNT_CAMERA["eye_in_hand"].tolist(),
        "camera": CameraFacts.of(CAMERA, "123"),
        "arm": "UR5e",
        "residuals": GOOD,
        "versions": versions(),
    }
    return Calibration(**{**facts, **changes})


def refusal(path: Path | None) -> tuple[str, str]:
    with pytest.raises(StageFailure) as caught:
        load_calibration(path, 90, NOW)
    assert caught.value.stage == "look"
    return caught.value.code, caught.value.message


def test_a_good_file_is_loaded(tmp_path: Path) -> None:
    calibration().save(tmp_path / "c.json")
    assert load_calibration(tmp_path / "c.json", 90, NOW).T_mount_camera == pytest.approx(T_MOUNT_CAMERA["eye_in_hand"])


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"date": NOW - timedelta(days=91)}, "calibration.old", "91 days old, limit 90"),
        ({"date": NOW + timedelta(days=1)}, "calibration.old", "in the future"),
        ({"residuals": GOOD.model_copy(update={"rms_px": 1.4})}, "calibration.poor", "1.40 px, limit 1 px"),
        ({"residuals": GOOD.model_copy(update={"consistency_mm": 6.0})}, "calibration.poor", "6.00 mm, limit 5 mm"),
        ({"residuals": GOOD.model_copy(update={"spread_mm": 7.0})}, "calibration.poor", "place 7.00 mm, limit 5 mm"),
        ({"residuals": GOOD.model_copy(update={"views": 7})}, "calibration.poor", "7 views"),
        ({"residuals": GOOD.model_copy(update={"rotation_deg": (60.0, 9.0, 3.0)})}, "calibration.poor", "9 degrees"),
        ({"T": np.diag([1.0, 1, -1, 1]).tolist()}, "calibration.pose", "no right-handed rotation"),
        ({"T": rigid(np.eye(3), [0, 0, 0.9]).tolist()}, "calibration.pose", "0.90 m from its mount, limit 0.6 m"),
    ],
)
def test_a_bad_calibration_is_refused(tmp_path: Path, changes: dict[str, Any], code: str, words: str) -> None:
    calibration(**changes).save(tmp_path / "c.json")
    assert refusal(tmp_path / "c.json")[0] == code
    assert words in refusal(tmp_path / "c.json")[1]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    assert refusal(None)[0] == "calibration.missing"
    assert refusal(tmp_path / "none.json")[0] == "calibration.missing"
    (tmp_path / "c.json").write_text("{")
    assert refusal(tmp_path / "c.json")[0] == "calibration.missing"
    calibration().save(tmp_path / "c.json")
    facts = json.loads((tmp_path / "c.json").read_text())
    for change in ({"date": "2026-05-01T12:00:00"}, {"kind": "eye"}, {"residuals": {}}):
        (tmp_path / "c.json").write_text(json.dumps({**facts, **change}))
        code, message = refusal(tmp_path / "c.json")
        assert code == "calibration.missing"
        assert next(iter(change)) in message
    (tmp_path / "c.json").write_text(json.dumps(facts).replace('"rms_px": 0.3', '"rms_px": NaN'))
    assert refusal(tmp_path / "c.json")[0] in ("calibration.poor", "calibration.missing")


@pytest.mark.parametrize(
    ("camera", "serial", "words"),
    [
        (CAMERA, "999", "of the camera 123, this one is 999"),
        (replace(CAMERA, width=1280, height=720, cx=640, cy=360), "123", "1280x720"),
        (replace(CAMERA, fx=640.0), "123", "focal length differs by 4.6%"),
        (replace(CAMERA, cx=330.0), "", "centre by 7.6 px"),
    ],
)
def test_another_camera_is_refused(camera: Any, serial: str, words: str) -> None:
    calibration().check_camera(CAMERA, "123")
    calibration().check_camera(CAMERA, "")
    with pytest.raises(StageFailure, match=re.escape(words)) as caught:
        calibration().check_camera(camera, serial)
    assert caught.value.code == "calibration.intrinsics"
