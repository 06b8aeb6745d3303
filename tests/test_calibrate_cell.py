"""A whole calibration through the command line: the emulated controller, a camera on its flange that writes files, and
a person who moves the arm at every question."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

from affordagent.agent.cli import main
from affordagent.agent.cli_calibrate import TIP_M
from affordagent.core.geometry import Array, invert, rotation_angle, transform_points
from affordagent.core.run_store import write_frame
from affordagent.robot.arms import flange_pose
from affordagent.robot.calibration.board import Board
from affordagent.robot.calibration.drawn import NOMINAL_Q, T_MOUNT_CAMERA, BoardCamera, board_in_camera, joints
from affordagent.robot.calibration.file import load_calibration
from affordagent.robot.emulator.process import Emulator, start_emulator

KIND = "eye_in_hand"
T_BASE_BOARD = flange_pose("UR5e", NOMINAL_Q) @ T_MOUNT_CAMERA[KIND] @ board_in_camera(KIND, NOMINAL_Q)


@pytest.fixture(scope="module")
def emulator(worker_id: str) -> Iterator[Emulator]:
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    with start_emulator(f"127.0.7.{10 + number}") as running:
        yield running


@contextlib.contextmanager
def camera_writing(emulator: Emulator, prefix: Path) -> Iterator[None]:
    """Pictures of the board from where the arm is, over and over, as a camera's own program writes them."""
    done, first = threading.Event(), threading.Event()
    camera = BoardCamera(noise=0.0)  # nothing but the board: quick to write

    def write() -> None:
        frame, at = None, np.zeros(6)
        with contextlib.closing(type(emulator.admin)(emulator.host)) as admin:
            while not done.wait(0.1):
                stamp_s, q = time.time(), np.array(admin.state()["q"])
                if frame is None or (q != at).any():
                    frame, at = camera.look(board_in_camera(KIND, q), stamp_s), q
                    write_frame(Path(f"{prefix}_new"), frame)
                    for ending in ("depth.png", "camera.json", "color.png"):
                        os.replace(f"{prefix}_new_{ending}", f"{prefix}_{ending}")
                    first.set()
                    continue
                facts = json.loads(Path(f"{prefix}_camera.json").read_text())
                Path(f"{prefix}_new.json").write_text(json.dumps({**facts, "stamp_s": stamp_s}))
                for ending in ("depth.png", "color.png"):  # the same pictures again
                    os.utime(f"{prefix}_{ending}")
                os.replace(f"{prefix}_new.json", f"{prefix}_camera.json")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert first.wait(30), "the camera wrote no picture"
        yield
    finally:
        done.set()
        writer.join()


def answers(monkeypatch: pytest.MonkeyPatch, steps: list[Callable[[], str]]) -> None:
    """The person: each question makes the next step happen; then it is enough."""
    todo = iter(steps)
    monkeypatch.setattr(builtins, "input", lambda question: next(todo, lambda: "q")())


def goes_to(emulator: Emulator, q: Array) -> Callable[[], str]:
    def go() -> str:
        there_s = emulator.admin.place(q)
        while emulator.admin.state()["t"] < there_s + 0.3:  # nobody presses Enter at once
            time.sleep(0.05)
        return ""

    return go


def touching(point: Array, near_q: Array) -> Array:
    """Joints (6,) at which the tip is on a point."""

    def off(q: Array) -> Array:
        tip = transform_points(flange_pose("UR5e", q), np.array([TIP_M]))[0]
        return np.append(100 * (tip - point), 0.01 * (q - near_q))

    return least_squares(off, near_q).x


def write_settings(folder: Path, emulator: Emulator, calibration: str = "") -> None:
    camera = f'[camera]\nsource = "files:{folder / "now"}"\nstale_s = 10.0\n'
    (folder / "affordagent.toml").write_text(f'cell = "ur5:{emulator.host}"\n{camera}{calibration}')


def test_collect_solve_check_and_tip(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("affordagent.robot.cameras.mounted.NEWER_WITHIN_S", 10.0)  # drawing may take long here
    write_settings(tmp_path, emulator)
    goes_to(emulator, NOMINAL_Q)()
    out_of_view = NOMINAL_Q + [1.2, 0, 0, 0, 0, 0]
    with camera_writing(emulator, tmp_path / "now"):
        answers(monkeypatch, [goes_to(emulator, q) for q in [*joints(KIND, 9, 5), out_of_view]])
        assert main(["calibrate", "collect", "--out", "views"]) == 0
        told = capsys.readouterr().out
        assert "9 views; next" in told, told
        assert "not taken: too little of the board" in told
        assert "tilt more" in told

        assert main(["calibrate", "solve", "views"]) == 0
        told = capsys.readouterr().out
        assert "eye in hand (eye to hand" in told
        found = load_calibration(tmp_path / "calibration.json", 1.0).T_mount_camera
        error = invert(T_MOUNT_CAMERA[KIND]) @ found
        assert 1000 * np.linalg.norm(error[:3, 3]) < 1.0
        assert np.degrees(rotation_angle(error[:3, :3])) < 0.1
        assert (tmp_path / "calibration.png").stat().st_size > 10_000

        write_settings(tmp_path, emulator, 'calibration = "calibration.json"\n')
        goes_to(emulator, NOMINAL_Q)()
        board = Board()
        corners = transform_points(T_BASE_BOARD, board.corners_m)
        touched = [touching(corners[i], NOMINAL_Q) for i in board.touch_ids.values()]
        answers(monkeypatch, [goes_to(emulator, q) for q in touched])
        assert main(["calibrate", "check"]) == 2  # the emulated controller starts without a tcp
        told = capsys.readouterr()
        assert "goes by a tcp at [0.0, 0.0, 0.0] mm from the flange" in told.err
        assert "touched 4 corners" in told.out
        assert float(told.out.split("corners: ")[1].split(" mm")[0]) < 1.5

    point = transform_points(flange_pose("UR5e", NOMINAL_Q), np.array([TIP_M]))[0]
    sides = [NOMINAL_Q + [0, 0, 0, a, b, c] for a, b, c in ((0, 0, 0), (0.5, 0.1, 0), (-0.4, 0, 1), (0, 0.6, 0.5))]
    answers(monkeypatch, [goes_to(emulator, touching(point, q)) for q in sides])
    assert main(["calibrate", "tcp"]) == 0
    told = capsys.readouterr().out
    assert "z 173.4 mm; the touches agree to 0.0" in told
