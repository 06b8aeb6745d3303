"""The real cell on the emulated controller: arm, gripper and camera together, and the commands `arm` and `home`."""

import json
import math
import os
import re
import shlex
import time
import tomllib
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest

from affordagent.agent.cli import build_parser, main
from affordagent.agent.session import Session, open_cell
from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.geometry import invert, look_at, rotation_angle
from affordagent.core.types import FunctionalQuery, Grasp, GraspPlan, JointTrajectory
from affordagent.robot.arms import flange_pose
from affordagent.robot.cameras.config import CameraConfig
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.interface import LOOK_Q, READY_Q
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.safety import SafeArm
from affordagent.robot.ur5.cell import T_FLANGE_TCP, Ur5Cell
from affordagent.robot.ur5.config import Ur5Config
from affordagent.tools.motion.plan_home import RAISE_M, plan_home
from affordagent.tools.outcome import Readings, verify_outcome

LIMITS = MotionLimits()
forward = ArmKinematics().forward


def q_at(z_m):
    """Joints with the hand pointing down at a height above the table."""
    kinematics = ArmKinematics()
    T = kinematics.forward(READY_Q)
    T[:3, 3] = [0.45, 0.134, z_m]
    return kinematics.inverse(T, READY_Q)[0]


@pytest.fixture(autouse=True)
def _state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def emulator(loopback):
    with start_emulator(loopback) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return tmp_path_factory.mktemp("camera") / "view"


def write_picture(prefix, T_base_camera, age_s=0.0):
    """A flat table as a camera would write it."""
    facts = {"width": 64, "height": 48, "fx": 60.0, "fy": 60.0, "cx": 32.0, "cy": 24.0, "depth_unit_m": 0.001}
    if T_base_camera is not None:
        facts["T_base_camera"] = T_base_camera.tolist()
    prefix.with_name("view_camera.json").write_text(json.dumps(facts))
    cv2.imwrite(str(prefix.with_name("view_color.png")), np.full((48, 64, 3), 90, np.uint8))
    cv2.imwrite(str(prefix.with_name("view_depth.png")), np.full((48, 64), 900, np.uint16))
    for name in ("view_color.png", "view_depth.png"):
        os.utime(prefix.with_name(name), (time.time() - age_s,) * 2)


CODES_OF_THE_ARM = ("protective_stop", "emergency_stop", "safeguard_stop", "safety_fault", "power_off", "local_control",
                    "program", "comms", "gripper")  # fmt: skip
T_BASE_CAMERA = look_at([0.5, 0.0, 0.9], [0.5, 0.01, 0.0])


@pytest.fixture(scope="class")
def cell(emulator, prefix):
    with Ur5Cell(emulator.host, Ur5Config(), CameraConfig(f"files:{prefix}", stale_s=30.0), LIMITS) as cell:
        cell.arm.gripper.activate()
        yield cell


def a_plan(start_q):
    """A grasp where the arm is, and a lift by the elbow."""
    lift = JointTrajectory(np.stack([start_q, start_q + [0, 0, -0.5, 0.5, 0, 0]]), np.array([0.0, 1.0]))
    return GraspPlan(Grasp(forward(start_q), 0.03, 1.0), 0, 0.05, lift, lift, lift)


def sensed(cell, plan):
    """What the cell's hand and joints say of a motion."""
    return verify_outcome(plan, Readings(cell.arm.read()), None, ArmKinematics())


def test_the_tcp_is_the_models():
    rng = np.random.default_rng(0)
    for q in rng.uniform(-np.pi, np.pi, (20, 6)):
        off = invert(flange_pose("UR5e", q) @ T_FLANGE_TCP) @ forward(q)
        assert np.linalg.norm(off[:3, 3]) < 0.002  # the model's link lengths are rounded
        assert rotation_angle(off[:3, :3]) < 0.002


def test_the_settings_open_it(emulator):
    cell = open_cell(Settings(cell=f"ur5:{emulator.host}"))
    assert isinstance(cell, Ur5Cell)
    assert (cell.name, cell.is_hardware) == (f"ur5:{emulator.host}", True)
    with pytest.raises(AffordAgentError, match="ur5:HOST"):
        open_cell(Settings(cell="ur5:"))
    with pytest.raises(RuntimeError, match="not open"):
        cell.look()


def grip(emulator, cell, width_m, thing_m):
    emulator.admin.object(None)
    assert cell.arm.grip(0.085, "open").reached
    emulator.admin.object(thing_m)
    return cell.arm.grip(width_m, "close")


class TestAnOpenCell:
    def test_it_looks(self, cell, prefix):
        write_picture(prefix, T_BASE_CAMERA)
        frame = cell.look()
        assert np.allclose(frame.T_base_camera, T_BASE_CAMERA)
        assert frame.depth_m.shape == (48, 64)

    def test_old_pictures_and_pictures_from_nowhere_are_refused(self, cell, prefix):
        write_picture(prefix, T_BASE_CAMERA, age_s=60)
        with pytest.raises(StageFailure) as caught:
            cell.look()
        assert (caught.value.stage, caught.value.code) == ("look", "camera.stale")
        write_picture(prefix, None)
        with pytest.raises(StageFailure) as caught:
            cell.look()
        assert caught.value.code == "calibration.missing"

    def test_hand_and_joints_tell_what_came_of_it(self, emulator, cell):
        plan, mask, query = a_plan(READY_Q), np.ones((48, 64), bool), FunctionalQuery(text="mug", intent="pick")
        assert cell.judge(plan, mask, query) is None  # nobody knows the truth
        assert grip(emulator, cell, 0.0, 0.03).reached
        emulator.admin.place(plan.lift.positions[-1])
        time.sleep(0.1)
        verdict = sensed(cell, plan)
        assert verdict.success
        assert verdict.by == "sensors"
        assert verdict.measured["width_m"] == pytest.approx(0.03, abs=0.001)
        assert verdict.measured["lift_m"] > 0.1

        emulator.admin.place(plan.lift.positions[0])  # the arm did not come up
        time.sleep(0.1)
        verdict = sensed(cell, plan)
        assert (verdict.success, verdict.code) == (False, "execution.tracking")

        emulator.admin.place(plan.lift.positions[-1])
        emulator.admin.object(None)  # it slips out: the fingers close
        time.sleep(1.0)
        verdict = sensed(cell, plan)
        assert (verdict.success, verdict.code) == (False, "execution.no_contact")
        assert verdict.checks == {"closed_on_something": False, "still_held": False, "lifted": True}


def test_a_cell_without_a_camera_leaves_no_arm_behind(emulator):
    cell = Ur5Cell(emulator.host, Ur5Config(gripper="none"), CameraConfig("webcam"), LIMITS)
    with pytest.raises(AffordAgentError, match="unknown camera source"), cell:
        pass
    with pytest.raises(RuntimeError, match="not connected"):
        cell.arm.read()


def test_a_digital_output_closes_the_hand(emulator, prefix):
    config, camera = Ur5Config(gripper="digital:3"), CameraConfig(f"files:{prefix}")
    with Ur5Cell(emulator.host, config, camera, LIMITS) as cell:
        assert cell.arm.grip(0.0, "close").reached
        assert emulator.admin.state()["digital_out"] & 0xFF == 1 << 3
        result = cell.arm.grip(0.05, "open")
        assert emulator.admin.state()["digital_out"] & 0xFF == 0
        assert result.state.gripper_width_m == pytest.approx(0.085)
        assert cell.arm.grip(0.0, "close").reached
        verdict = sensed(cell, a_plan(LOOK_Q))
    assert set(verdict.checks) == {"lifted"}  # it has no sensor for more


# ---- the way home ---------------------------------------------------------------------------------------------------
def test_home_is_straight_up_first_and_safe():
    motions = plan_home(q_at(0.05), np.empty((0, 3)), 0.03, limits=LIMITS)
    assert len(motions) == 2
    safe = SafeArm(None, LIMITS, ArmKinematics())
    assert [safe.check(motion, 0.03) for motion in motions] == [None, None]
    start, top = (forward(q)[:3, 3] for q in motions[0].positions[[0, -1]])
    assert np.allclose(top - start, [0, 0, RAISE_M], atol=1e-4)
    assert np.allclose(motions[1].positions[0], motions[0].positions[-1])
    assert np.allclose(motions[1].positions[-1], LOOK_Q)


def test_nothing_to_do_at_home():
    assert plan_home(LOOK_Q + 0.001, np.empty((0, 3)), math.nan, limits=LIMITS) == []


def test_home_goes_round_what_is_seen_but_not_round_the_arm_and_what_it_holds():
    free = plan_home(READY_Q, np.empty((0, 3)), 0.085, limits=LIMITS)
    middle = forward(free[-1].positions[len(free[-1].positions) // 2])[:3, 3]
    grid = np.stack(np.meshgrid(*[np.arange(-0.05, 0.05, 0.01)] * 3), -1).reshape(-1, 3)
    own = forward(READY_Q)[:3, 3] + 0.5 * grid  # in the hand
    round_it = plan_home(READY_Q, np.concatenate([middle + grid, own]), 0.085, limits=LIMITS)
    path = np.array([forward(q)[:3, 3] for q in round_it[-1].positions[::10]])
    assert np.linalg.norm(path - middle, axis=1).min() > 0.05
    assert np.allclose(plan_home(READY_Q, own, 0.085, limits=LIMITS)[-1].positions, free[-1].positions)


def test_home_from_inside_the_table_is_for_a_person():
    with pytest.raises(StageFailure, match="freedrive") as caught:
        plan_home(q_at(-0.02), np.empty((0, 3)), 0.0, limits=LIMITS)
    assert caught.value.code == "planning.start_in_collision"


def test_the_command_brings_it_home(emulator, prefix, tmp_path, capsys):
    write_picture(prefix, T_BASE_CAMERA)
    settings = tmp_path / "cell.toml"
    settings.write_text(f'cell = "ur5:{emulator.host}"\n[camera]\nsource = "files:{prefix}"\nstale_s = 300\n')
    emulator.admin.object(None)
    emulator.admin.place(LOOK_Q + [0.4, 0.1, 0, 0, 0, 0])
    before = len(emulator.admin.motions())
    assert main(["home", "--settings", str(settings)]) == 3  # nobody to ask
    assert len(emulator.admin.motions()) == before
    assert "Move the robot? no" in capsys.readouterr().out
    assert main(["home", "--settings", str(settings), "--yes", "--speed", "1"]) == 0
    assert np.allclose(emulator.admin.state()["q"], LOOK_Q, atol=0.02)
    assert [motion["kind"] for motion in emulator.admin.motions()[before:]] == ["servo"]


def test_the_command_shows_the_arm(emulator, capsys):
    emulator.admin.place(LOOK_Q)
    assert main(["arm", "--cell", f"ur5:{emulator.host}", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["ready"]
    assert np.allclose(facts["arm"]["positions_rad"], LOOK_Q, atol=1e-3)
    assert facts["arm"]["tcp_off_m"] < 0.001  # our program has set our tcp
    assert facts["arm"]["age_s"] < 1
    emulator.admin.fault("local_control")
    assert main(["arm", "--cell", f"ur5:{emulator.host}"]) == 1
    said = capsys.readouterr().out
    assert "control      local" in said
    assert "Remote Control" in said
    emulator.admin.fault("local_control", on=False)


# ---- the page -------------------------------------------------------------------------------------------------------
PAGE = (Path(__file__).parents[1] / "docs" / "ur5.md").read_text()


def test_the_settings_on_the_page_are_all_there_and_the_defaults():
    values = tomllib.loads(re.search(r"```toml\n(.*?)```", PAGE, re.S)[1])
    shown, defaults = Settings.model_validate(values), Settings(cell=values["cell"])
    assert (shown.ur5, shown.limits, shown.speed, shown.confirm) == (
        defaults.ur5, defaults.limits, defaults.speed, defaults.confirm)  # fmt: skip
    for table, kind in (("ur5", Ur5Config), ("camera", CameraConfig), ("limits", MotionLimits)):
        assert set(values[table]) == {field.name for field in fields(kind)}


def test_the_page_has_every_code_that_needs_a_person():
    assert all(f"`execution.{code}`" in PAGE for code in CODES_OF_THE_ARM)


def test_every_command_on_the_page_exists():
    commands = re.findall(r"^affordagent (.*?)(?:  +#.*)?$", PAGE, re.M)
    assert len(commands) > 8
    parser = build_parser()
    for command in commands:
        parser.parse_args(shlex.split(command))


def test_without_a_gripper_nothing_is_commanded():
    settings = Settings(cell="ur5:127.255.255.7", ur5=Ur5Config(gripper="none"))
    with pytest.raises(AffordAgentError, match="Name the gripper, or add --dry-run"), Session(settings):
        raise AssertionError("not opened")
