"""The Robotiq's driver against the emulated URCap, and against sockets that misbehave."""

import math
import socket
import threading
import time

import pytest

from affordagent.core.errors import StageFailure
from affordagent.robot import urcap
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.gripper import (
    FAULTS,
    ROBOTIQ_STROKE_M,
    DigitalGripper,
    NoGripper,
    RobotiqGripper,
    check_counts,
    open_gripper,
)

COUNT_M = ROBOTIQ_STROKE_M / 227


@pytest.fixture(scope="module")
def emulator(loopback):
    with start_emulator(loopback, speedup=2.0) as emulator:
        yield emulator


@pytest.fixture
def gripper(emulator):
    emulator.admin.clear()
    emulator.admin.fault("gripper_drop", on=False)
    emulator.admin.object(None)
    gripper = RobotiqGripper(emulator.host)
    gripper.connect()
    gripper.activate()
    yield gripper
    gripper.close()


def rest(gripper, width_m, force_n=60.0, speed_m_s=0.15):
    gripper.move(width_m, force_n, speed_m_s)
    end_s = time.monotonic() + 15
    while time.monotonic() < end_s:
        state = gripper.read()
        if not state.moving:
            return state
        time.sleep(0.01)
    pytest.fail("the fingers never came to rest")


def test_activates_once(emulator):
    gripper = RobotiqGripper(emulator.host)
    gripper.connect()
    before = len(emulator.admin.motions())
    gripper.activate()
    gripper.activate()  # nothing: it would open a hand that holds something
    assert gripper.read().fault is None
    assert len(emulator.admin.motions()) == before
    gripper.close()


def test_widths_are_metres(gripper):
    for width_m in (0.0, 0.02, 0.0431, 0.085):
        state = rest(gripper, width_m)
        assert state.width_m == pytest.approx(width_m, abs=COUNT_M)
        assert state.holding is False
        assert state.fault is None


def test_something_between_the_fingers_is_held(emulator, gripper):
    rest(gripper, 0.085)
    emulator.admin.object(0.031)
    state = rest(gripper, 0.0)
    assert state.holding is True
    assert state.width_m == pytest.approx(0.031, abs=COUNT_M)
    gripper.stop()  # at rest: it goes on pressing
    assert gripper.read().holding is True
    emulator.admin.object(None)  # it slips out
    time.sleep(0.5)
    assert gripper.read().holding is False


def test_stop_on_the_way(emulator, gripper):
    rest(gripper, 0.085)
    gripper.move(0.0, 20.0, 0.02)
    time.sleep(0.3)
    gripper.stop()
    state = gripper.read()
    assert not state.moving
    assert state.fault is None
    assert state.holding is None  # a hand that was stopped cannot tell
    assert 0.005 < state.width_m < 0.084
    time.sleep(0.2)
    assert gripper.read().width_m == pytest.approx(state.width_m, abs=2 * COUNT_M)
    assert rest(gripper, 0.0).width_m == 0.0


def test_a_jam_is_no_object(emulator, gripper):
    rest(gripper, 0.085)
    gripper.move(0.0, 20.0, 0.02)
    time.sleep(0.2)
    emulator.admin.fault("gripper_jam")
    start_s = time.monotonic()
    while (state := gripper.read()).moving:
        assert time.monotonic() - start_s < 5
        time.sleep(0.02)
    assert state.holding is False
    assert "jammed at" in state.fault
    assert "on the way to 0 mm" in state.fault
    emulator.admin.fault("gripper_jam", on=False)
    assert rest(gripper, 0.04).fault is None


def test_still_fingers_at_their_goal_are_not_jammed(monkeypatch):
    """Though the hand calls itself moving, as one did on a computer with no time left."""
    registers = {"STA": 3, "FLT": 0, "GTO": 1, "OBJ": 0, "POS": 3, "PRE": 3}
    hand = RobotiqGripper("127.255.255.1")
    monkeypatch.setattr(hand, "_get", registers.__getitem__)
    assert hand.read().moving
    hand._changed_s -= 1.1
    state = hand.read()
    assert (state.moving, state.fault) == (False, None)
    registers["PRE"] = 100
    assert "jammed at 85 mm" in hand.read().fault


def test_calibration_finds_the_ends(gripper):
    assert gripper.calibrate_stroke() == (3, 230)
    assert rest(gripper, 0.03).width_m == pytest.approx(0.03, abs=COUNT_M)


def test_calibration_refuses_with_something_in_the_hand(emulator, gripper):
    rest(gripper, 0.085)
    emulator.admin.object(0.05)
    with pytest.raises(StageFailure, match="something is between the fingers"):
        gripper.calibrate_stroke()


def test_without_power(emulator, gripper):
    emulator.admin.fault("power_off")
    while emulator.admin.state()["mode"] != "POWER_OFF":  # it brakes first
        time.sleep(0.01)
    with pytest.raises(StageFailure, match="no power") as caught:
        gripper.read()
    assert caught.value.code == "execution.gripper"
    emulator.admin.clear()
    state = gripper.read()
    assert (state.active, state.fault, state.holding) == (False, None, None)
    with pytest.raises(StageFailure, match="not activated"):
        gripper.move(0.0, 60.0)


def test_a_dropped_link_is_opened_again(emulator, gripper):
    emulator.admin.fault("gripper_drop")
    with pytest.raises(StageFailure, match="3 attempts"):
        gripper.read()
    emulator.admin.fault("gripper_drop", on=False)
    assert gripper.read().fault is None


@pytest.mark.parametrize(
    ("width_m", "force_n", "speed_m_s"),
    [(-0.001, 60, 0.1), (0.09, 60, 0.1), (math.nan, 60, 0.1), (0.05, 19, 0.1), (0.05, 240, 0.1), (0.05, 60, 0.2)],
)
def test_values_out_of_range_are_not_sent(emulator, gripper, width_m, force_n, speed_m_s):
    before = emulator.admin.state()["gripper"]["target"]
    with pytest.raises(ValueError, match="must lie between"):
        gripper.move(width_m, force_n, speed_m_s)
    assert emulator.admin.state()["gripper"]["target"] == before


class BadUrcap:
    """A server that answers each connection in its own way: a script is a list of what to send to each line."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.lines = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            script = self.scripts.pop(0) if self.scripts else []
            threading.Thread(target=self._talk, args=(link, script), daemon=True).start()

    def _talk(self, link, script):
        with link, link.makefile("rb") as lines:
            for answer in script:
                line = lines.readline()
                if not line:
                    return
                self.lines.append(line)
                for piece in answer if isinstance(answer, list) else [answer]:
                    if isinstance(piece, float):
                        time.sleep(piece)
                    else:
                        link.sendall(piece)

    def __enter__(self):
        self.link = urcap.UrcapLink("127.0.0.1", self.port)
        return self.link

    def __exit__(self, *exc):
        self.link.close()
        self._listener.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(urcap, "_REPLY_S", 0.3)


@pytest.mark.parametrize(
    "answer",
    [b"POS 230\n", [b"POS 230", 0.1], b"\nPOS 230\r\n", [b"POS", 0.05, b" 2", 0.02, b"30\n"], [b"P", b"OS 230", 0.1]],
    ids=["line", "no line end", "line end of an ack before it", "in pieces", "in pieces, no line end"],
)
def test_answers_come_as_they_like(answer):
    with BadUrcap([answer]) as link:
        assert link.get("POS") == "230"


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ([0.6], "timed out"),
        ([b"POS 2", 0.01], "closed after b'POS 2'"),
        (b"OBJ 3\n", "it said b'OBJ 3"),
        (b"\xff\xfe\x00\n", "it said"),
        (b"x" * 5000, "it said b'xxx"),
        ([b""], "closed"),
    ],
    ids=["silence", "half a line, then closed", "another's answer", "no text", "endless", "closed"],
)
def test_bad_answers_end_in_a_failure_in_time(answer, what):
    with BadUrcap(*[[answer]] * urcap._TRIES) as link:
        start_s = time.monotonic()
        with pytest.raises(StageFailure, match=what) as caught:
            link.get("POS")
        assert time.monotonic() - start_s < 4
    assert caught.value.code == "execution.gripper"
    assert "3 attempts" in caught.value.message


def test_a_late_answer_is_never_the_next_questions():
    with BadUrcap([[0.5, b"POS 3\n"]], [b"POS 99\n", b"OBJ 2\n"]) as link:
        assert link.get("POS") == "99"
        assert link.get("OBJ") == "2"


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(StageFailure, match="URCap is installed"):
        RobotiqGripper("127.0.0.1", port).connect()


@pytest.mark.parametrize(("fault", "name"), [(14, "overcurrent"), (8, "too hot"), (99, "unknown fault")])
def test_faults_by_name(fault, name):
    answers = [f"{register} {value}\n".encode() for register, value in
               (("STA", 3), ("FLT", f"{fault:02d}"), ("GTO", 1), ("OBJ", 2), ("POS", 100))]  # fmt: skip
    with BadUrcap(answers) as link:
        state = RobotiqGripper("127.0.0.1", link.address[1]).read()
    assert state.holding is None
    assert state.fault.startswith(name)
    assert f"FLT {fault}" in state.fault
    assert all(f.mend for f in FAULTS.values())


@pytest.mark.parametrize("value", ["256", "-1", "nan", "3.5"])
def test_values_of_the_gripper_are_checked(value):
    with BadUrcap([f"STA {value}\n".encode()]) as link, pytest.raises(StageFailure, match="0 to 255"):
        RobotiqGripper("127.0.0.1", link.address[1]).connect()


def test_digital_output():
    sent = []
    gripper = DigitalGripper(3, lambda pin, on: sent.append((pin, on)), settle_s=0.05)
    assert math.isnan(gripper.read().width_m)
    assert not gripper.read().moving
    gripper.move(0.05, 60.0)
    assert gripper.read().moving
    time.sleep(0.06)
    state = gripper.read()
    assert (state.width_m, state.holding, state.moving) == (0.085, None, False)
    gripper.move(0.0, 60.0)
    assert math.isnan(gripper.read().width_m)
    assert sent == [(3, False), (3, True)]
    gripper.stop()
    gripper.close()
    assert sent == [(3, False), (3, True)]


def test_the_settings_text():
    assert isinstance(open_gripper("robotiq", "h", print), RobotiqGripper)
    assert isinstance(open_gripper("digital:2", "h", print), DigitalGripper)
    none = open_gripper("none", "h", print)
    assert isinstance(none, NoGripper)
    with pytest.raises(StageFailure, match="nothing can be gripped"):
        none.move(0.0, 20.0)
    for text in ("digital:x", "digital:9", "hand", ""):
        with pytest.raises(ValueError, match="must be"):
            open_gripper(text, "h", print)
    for counts in ((-1, 230), (50, 230), (3, 100), (3, 256)):
        with pytest.raises(ValueError, match="gripper counts"):
            check_counts(counts)
