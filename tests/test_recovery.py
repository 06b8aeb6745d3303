"""What keeps the arm from moving and what may be done about it, against the emulated controller's dashboard."""

import time

import numpy as np
import pytest

from affordagent.agent.cli import main
from affordagent.core.errors import StageFailure
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.gripper import RobotiqGripper
from affordagent.robot.ur5.dashboard import Dashboard
from affordagent.robot.ur5.recovery import Condition, Recovery, apply, diagnose, read_condition, remedy_for, steps_after
from affordagent.robot.ur5.state import EMERGENCY, FAULT, PLAYING, PROTECTIVE, SAFEGUARD, VIOLATION, UrState, fault_of
from affordagent.robot.ur5.status import read_at_rest

CODES = ("protective_stop", "emergency_stop", "safeguard_stop", "safety_fault", "power_off", "local_control",
         "program", "comms", "gripper")  # fmt: skip
MODES = {"POWER_OFF": 3, "POWER_ON": 4, "IDLE": 5, "RUNNING": 7}
BITS = {"NORMAL": 1, "PROTECTIVE_STOP": PROTECTIVE, "SAFEGUARD_STOP": SAFEGUARD, "ROBOT_EMERGENCY_STOP": EMERGENCY,
        "VIOLATION": VIOLATION, "FAULT": FAULT}  # fmt: skip


@pytest.fixture(scope="module")
def emulator(loopback):
    with start_emulator(loopback, speedup=8.0) as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


class Controller:
    """The emulator as the driver sees it: `read` for its state, `prepare` for the upload of our program."""

    def __init__(self, emulator):
        emulator.admin.clear()
        self.emulator, self.uploads, self.has_control = emulator, 0, True

    def read(self):
        facts = self.emulator.admin.state()
        now_s = time.monotonic()
        return UrState(
            q=np.array(facts["q"]),
            qd=np.zeros(6),
            tcp_pose=np.zeros(6),
            tcp_force=np.zeros(6),
            robot_mode=MODES[facts["mode"]],
            safety_bits=BITS[facts["safety"]],
            runtime_state=PLAYING,
            speed_scaling=1.0,
            has_control=self.has_control,
            stamp_s=facts["t"],
            seen_s=now_s,
            beat_s=now_s,
        )

    def prepare(self):
        self.uploads += 1
        self.has_control = True

    def fault(self, name, code):
        self.has_control = False
        self.emulator.admin.fault(name)
        end_s = time.monotonic() + 5
        while (found := fault_of(self.read())) is None or found[0] != code:
            assert time.monotonic() < end_s
            time.sleep(0.01)


@pytest.fixture
def controller(emulator):
    return Controller(emulator)


@pytest.mark.parametrize("code", CODES)
def test_every_diagnosis_says_what_is_it_safe_and_what_to_do(code):
    diagnosis = diagnose(f"execution.{code}", "detail 7")
    assert diagnosis.what.endswith("(detail 7)")
    assert diagnosis.safe.endswith(".")
    assert diagnosis.steps == steps_after(diagnosis.code)
    assert all(step.endswith(".") for step in diagnosis.steps)
    assert diagnosis.automatic == (code in ("protective_stop", "program"))
    failure = diagnosis.as_failure(host="h")
    assert (failure.stage, failure.code) == ("execute", diagnosis.code)
    assert failure.evidence == {"steps": list(diagnosis.steps), "host": "h"}


def test_nothing_to_do_after_other_failures():
    assert steps_after("grasp.none") == ()


@pytest.mark.parametrize(
    ("mode", "safety", "remote", "code", "question"),
    [
        ("RUNNING", "NORMAL", True, None, None),
        ("RUNNING", "REDUCED", True, None, None),
        ("RUNNING", "NORMAL", False, "local_control", None),
        ("RUNNING", "PROTECTIVE_STOP", True, "protective_stop", "Unlock"),
        ("RUNNING", "SAFEGUARD_STOP", True, "safeguard_stop", None),
        ("RUNNING", "RECOVERY", True, "safety_fault", None),
        ("POWER_OFF", "ROBOT_EMERGENCY_STOP", True, "emergency_stop", None),
        ("POWER_OFF", "SYSTEM_EMERGENCY_STOP", False, "emergency_stop", None),
        ("POWER_OFF", "VIOLATION", True, "safety_fault", "Restart the safety"),
        ("POWER_OFF", "FAULT", True, "safety_fault", "Restart the safety"),
        ("POWER_OFF", "NORMAL", True, "power_off", "Switch it on"),
        ("POWER_OFF", "NORMAL", False, "power_off", None),
        ("IDLE", "NORMAL", True, "power_off", "Release the brakes"),
        ("BOOTING", "NORMAL", True, "power_off", "Wait"),
        ("CONFIRM_SAFETY", "NORMAL", True, "power_off", None),
    ],
)
def test_from_condition_to_diagnosis_and_remedy(mode, safety, remote, code, question):
    condition = Condition(mode, safety, "STOPPED", remote)
    diagnosis, remedy = condition.diagnosis(), remedy_for(condition)
    assert (diagnosis and diagnosis.code) == (code and f"execution.{code}")
    assert (remedy is None) == (question is None)
    if question:
        assert question in remedy.question
        assert not remedy.ended(condition)


def test_a_protective_stop_is_unlocked_once_at_a_spot(controller):
    recovery = Recovery(controller.emulator.host, unlocks=3)
    code = "execution.protective_stop"
    controller.fault("protective_stop", code)
    mended = recovery.make_ready(controller.read, controller.prepare)
    assert mended == ["unlocked a protective stop", "uploaded our program to the controller"]
    assert recovery.make_ready(controller.read, controller.prepare) == []

    controller.fault("protective_stop", code)  # again, where it was, and no motion has succeeded since
    with pytest.raises(StageFailure, match="no motion has succeeded since") as caught:
        recovery.make_ready(controller.read, controller.prepare)
    assert caught.value.code == code
    assert caught.value.evidence["steps"]
    assert controller.emulator.admin.state()["safety"] == "PROTECTIVE_STOP"

    recovery.succeeded()
    assert recovery.make_ready(controller.read, controller.prepare)
    assert recovery.unlocks_left == 1


def test_elsewhere_it_may_be_unlocked_again_until_the_count_is_used_up(controller):
    recovery = Recovery(controller.emulator.host, unlocks=2)
    for k in range(2):
        controller.emulator.admin.place(np.full(6, -0.5 - 0.2 * k))
        controller.fault("protective_stop", "execution.protective_stop")
        assert "unlocked a protective stop" in recovery.make_ready(controller.read, controller.prepare)
    controller.emulator.admin.place(np.full(6, -1.5))
    controller.fault("protective_stop", "execution.protective_stop")
    with pytest.raises(StageFailure, match="used up"):
        recovery.make_ready(controller.read, controller.prepare)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("emergency_stop", "execution.emergency_stop"),
        ("safeguard_stop", "execution.safeguard_stop"),
        ("violation", "execution.safety_fault"),
        ("power_off", "execution.power_off"),
    ],
)
def test_all_else_needs_a_person(controller, fault, code):
    controller.fault(fault, code)
    before = controller.emulator.admin.state()
    with pytest.raises(StageFailure) as caught:
        Recovery(controller.emulator.host, unlocks=3).make_ready(controller.read, controller.prepare)
    after = controller.emulator.admin.state()
    assert caught.value.code == code
    assert len(caught.value.evidence["steps"]) >= 2
    assert (after["safety"], controller.uploads) == (before["safety"], 0)
    assert after["mode"] in (before["mode"], "POWER_OFF")  # it may still have been braking


def test_nothing_is_uploaded_in_local_control(controller):
    controller.emulator.admin.fault("local_control")
    controller.has_control = False
    with pytest.raises(StageFailure) as caught:
        Recovery(controller.emulator.host, unlocks=3).make_ready(controller.read, controller.prepare)
    assert caught.value.code == "execution.local_control"
    assert controller.uploads == 0


def test_a_program_that_never_runs_is_given_up(controller):
    controller.has_control = False
    controller.prepare = lambda: None
    with pytest.raises(StageFailure) as caught:
        Recovery(controller.emulator.host, unlocks=3).make_ready(controller.read, controller.prepare)
    assert caught.value.code == "execution.program"


def test_step_by_step_from_a_violation_to_running(controller):
    controller.fault("violation", "execution.safety_fault")
    asked = []
    for _ in range(5):
        with Dashboard(controller.emulator.host) as dashboard:
            condition = read_condition(dashboard)
        remedy = remedy_for(condition)
        if remedy is None:
            break
        asked.append(remedy.command)
        apply(controller.emulator.host, remedy)
    assert condition.diagnosis() is None
    assert asked == ["restart safety", "power on", "brake release"]


def test_the_command_asks_before_each_step(controller, capsys):
    cell = f"ur5:{controller.emulator.host}"
    controller.fault("power_off", "execution.power_off")
    assert main(["recover", "--cell", cell]) == 3  # nobody to ask
    assert controller.emulator.admin.state()["mode"] == "POWER_OFF"
    assert "Switch it on? no" in capsys.readouterr().out
    assert main(["recover", "--cell", cell, "--yes"]) == 0
    said = capsys.readouterr().out
    assert [q in said for q in ("Switch it on? yes", "Release the brakes? yes", "Activate the gripper? yes")] == [
        True
    ] * 3
    assert controller.emulator.admin.state()["mode"] == "RUNNING"


def test_the_command_leaves_a_pressed_button_to_the_person(controller, capsys):
    controller.fault("emergency_stop", "execution.emergency_stop")
    assert main(["recover", "--cell", f"ur5:{controller.emulator.host}", "--yes"]) == 1
    assert "Turn the red button" in capsys.readouterr().out
    assert controller.emulator.admin.state()["safety"] == "ROBOT_EMERGENCY_STOP"


def test_the_command_measures_the_stroke(controller, capsys):
    assert main(["recover", "--cell", f"ur5:{controller.emulator.host}", "--yes", "--stroke"]) == 0
    assert "gripper_counts = [3, 230]" in capsys.readouterr().out


def test_the_command_wants_a_real_cell(capsys):
    assert main(["recover", "--cell", "sim"]) == 2
    assert "must be ur5:HOST" in capsys.readouterr().err
    assert main(["recover", "--cell", "ur5:127.255.255.1"]) == 2
    assert "does not answer" in capsys.readouterr().err


def test_a_full_hand_is_emptied_only_when_asked_for(emulator, capsys):
    """`recover --open` after a yes; plain `recover` leaves what is held where it is."""
    emulator.admin.clear()
    gripper, cell = RobotiqGripper(emulator.host), f"ur5:{emulator.host}"
    gripper.activate()
    emulator.admin.object(0.03)
    try:
        gripper.move(0.0, 40.0)
        assert read_at_rest(gripper).holding
        assert main(["recover", "--cell", cell, "--yes"]) == 0
        assert main(["recover", "--cell", cell, "--open"]) == 3  # nobody to ask
        assert gripper.read().holding
        assert main(["recover", "--cell", cell, "--open", "--yes"]) == 0
        assert gripper.read().width_m > 0.08
    finally:
        emulator.admin.object(None)
        gripper.close()
    assert "hold it" in capsys.readouterr().out
