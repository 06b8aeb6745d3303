"""The emulated controller tick by tick, without sockets: motions, stops, safety, programs, gripper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affordagent.robot.arms import ARMS
from affordagent.robot.emulator.control_script import BANNER, DONE, READY, Command
from affordagent.robot.emulator.controller import UNLOCK_AFTER_S, Controller, Mode, Runtime, Safety
from affordagent.robot.emulator.faults import Faults, Link
from affordagent.robot.emulator.kinematics import Kinematics, compose, pose_of_rows, rotation_between, rows_of_pose
from affordagent.robot.emulator.plain_plant import PlainPlant
from affordagent.robot.emulator.robotiq import Robotiq, count_of, width_of
from affordagent.robot.emulator.urscript import Splitter
from affordagent.robot.interface import READY_Q

HOME = np.array([0.0, -1.57, 1.57, -1.57, -1.57, 0.0])
SCRIPT = f"def rtde_control():\n  textmsg('{BANNER}')\nend\n"
FAR = [HOME + [1.0, 0, 0, 0, 0, 0]][0]


class Rig:
    """A controller with its gripper and faults, and a client's half of the mailbox."""

    def __init__(self, arm="UR5e", powered=True):
        version = (5, 11, 0, 0) if ARMS[arm].is_e_series else (3, 15, 0, 0)
        self.said = []
        self.plant = PlainPlant(HOME)
        self.c = Controller(arm, version, self.plant, powered=powered, say=self.said.append)
        self.gripper = Robotiq(self.c)
        self.faults = Faults(self.c, self.gripper, Link())

    def run(self, duration_s, each=None):
        for _ in range(round(duration_s / self.c.dt_s)):
            if each is not None:
                each()
            self.c.tick()
            self.gripper.tick()

    def until(self, done, limit_s=20.0):
        """Seconds of the controller until it is so."""
        start_s = self.c.t
        while not done():
            assert self.c.t - start_s < limit_s, self.said[-5:]
            self.run(self.c.dt_s)
        return self.c.t - start_s

    def upload(self):
        self.c.load_script(SCRIPT)
        self.until(lambda: self.c.runtime is Runtime.PLAYING and self.c.registers.out_int[0] == READY)

    def put(self, command, values=(), asynchronous=0):
        registers = self.c.registers
        for i, value in enumerate(values):
            registers.write(f"input_double_register_{i}", float(value), self.c.t)
        registers.write("input_int_register_1", asynchronous, self.c.t)
        registers.write("input_int_register_0", command, self.c.t)

    def command(self, command, values=(), asynchronous=0):
        """A command as ur_rtde gives it: put, wait for DONE, take back, wait for READY. Seconds it took."""
        self.put(command, values, asynchronous)
        took_s = self.until(lambda: self.c.registers.out_int[0] == DONE)
        self.put(Command.NONE)
        self.until(lambda: self.c.registers.out_int[0] == READY)
        return took_s

    @property
    def motions(self):
        return self.c.log.as_json(self.plant.q.tolist(), self.plant.fingers.opening_m)


@pytest.fixture
def rig():
    rig = Rig()
    rig.upload()
    return rig


# ---- kinematics -----------------------------------------------------------------------------------------------------

joints = st.lists(st.floats(-3.0, 3.0), min_size=6, max_size=6)


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_pose_vectors_survive(pose):
    rows = rows_of_pose(pose)
    assert compose(rows_of_pose(pose_of_rows(rows)), rows_of_pose([0] * 6)) == pytest.approx(rows, abs=1e-9)


def test_half_turns_have_an_axis():
    for axis in ([np.pi, 0, 0], [0, 0, np.pi], [np.pi / 2**0.5, -np.pi / 2**0.5, 0]):
        rows = rows_of_pose([0, 0, 0, *axis])
        assert rows_of_pose(pose_of_rows(rows)) == pytest.approx(rows, abs=1e-9)
    assert rotation_between(rows_of_pose([0] * 6), rows_of_pose([0, 0, 0, 0.3, 0, 0])) == pytest.approx([0.3, 0, 0])


@given(st.sampled_from(sorted(ARMS)), joints)
def test_the_jacobian_is_the_derivative(arm, q):
    kinematics = Kinematics(arm)
    kinematics.T_flange_tcp = rows_of_pose([0, 0, 0.16, 0, 0, 0])
    step = 1e-6
    for i, column in enumerate(kinematics.jacobian(q).T):
        moved = [v + step * (k == i) for k, v in enumerate(q)]
        before, after = kinematics.tcp(q), kinematics.tcp(moved)
        numeric = [after[k] - before[k] for k in (3, 7, 11)] + rotation_between(before, after)
        assert np.allclose(np.array(numeric) / step, column, atol=1e-4)


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_inverse_finds_the_way_back(arm):
    kinematics = Kinematics(arm)
    q = kinematics.inverse(kinematics.tcp(READY_Q), READY_Q + 0.1)
    assert np.allclose(kinematics.tcp(q), kinematics.tcp(READY_Q), atol=1e-6)
    assert kinematics.inverse(rows_of_pose([9, 0, 0, 0, 0, 0]), READY_Q) is None


# ---- motions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["UR5e", "UR5"])
def test_movej_is_a_trapezoid(arm):
    rig = Rig(arm)
    rig.upload()
    speeds = []
    rig.put(Command.MOVEJ, [*FAR, 0.8, 1.6])
    took_s = rig.until(lambda: speeds.append(rig.plant.qd[0]) or rig.c.registers.out_int[0] == DONE)
    assert took_s == pytest.approx(1.0 / 0.8 + 0.8 / 1.6, abs=3 * rig.c.dt_s)
    assert np.allclose(rig.plant.q, FAR)
    assert max(speeds) == pytest.approx(0.8, abs=1e-6)
    assert np.abs(np.diff(speeds)).max() < 1.05 * 1.6 * rig.c.dt_s


def test_movel_is_straight(rig):
    kinematics = rig.c.motion.kinematics
    start = pose_of_rows(kinematics.tcp(HOME))
    goal = [start[0], start[1] + 0.1, start[2] - 0.1, *start[3:]]
    points = []
    rig.put(Command.MOVEL, [*goal, 0.1, 0.5])
    rig.until(lambda: points.append(pose_of_rows(kinematics.tcp(rig.plant.q))) or rig.c.registers.out_int[0] == DONE)
    points = np.array(points)
    assert np.allclose(points[-1], goal, atol=1e-5)
    assert np.allclose(points[:, 1] - start[1], start[2] - points[:, 2], atol=1e-5)  # along the diagonal
    assert np.abs(np.diff(points[:, 1])).max() / rig.c.dt_s < 0.1


def test_a_move_out_of_reach_is_a_protective_stop(rig):
    rig.put(Command.MOVEL, [-2.0, 0, 0.3, 0, 3.14, 0, 0.5, 1.0])
    rig.until(lambda: rig.c.safety is Safety.PROTECTIVE_STOP)
    assert rig.c.runtime is Runtime.STOPPED


def test_servo_trails_by_its_lookahead(rig):
    target = HOME.copy()
    gap = []

    def stream():
        target[5] += 0.5 * rig.c.dt_s
        rig.put(Command.SERVOJ, [*target, 0, 0, 0.008, 0.1, 300])
        gap.append(target[5] - rig.plant.q[5])

    rig.run(1.0, stream)
    assert gap[-1] == pytest.approx(0.5 * 0.1, rel=0.05)
    rig.command(Command.SERVO_STOP, [10.0])
    assert not rig.plant.qd.any()
    (motion,) = rig.motions
    assert motion["kind"] == "servo"
    assert motion["t1"] - motion["t0"] == pytest.approx(1.0, abs=0.01)
    assert motion["end"][5] == pytest.approx(rig.plant.q[5])


def test_a_servo_target_out_of_the_blue_stays_within_the_joints_speed(rig):
    fastest = 0.0
    for _ in range(200):
        rig.put(Command.SERVOJ, [*(HOME + 2.5), 0, 0, 0.008, 0.03, 300])
        rig.run(rig.c.dt_s)
        fastest = max(fastest, np.abs(rig.plant.qd).max())
    assert rig.c.safety is Safety.NORMAL
    assert 3.0 < fastest <= np.pi + 1e-6


def test_an_async_move_reports_its_progress_and_stops(rig):
    rig.command(Command.MOVEJ, [*FAR, 0.5, 1.0], asynchronous=1)
    rig.run(0.5)
    word = rig.c.registers.out_int[2]
    assert word & 0x8000
    rig.command(Command.STOPJ, [4.0])
    assert not rig.c.registers.out_int[2] & 0x8000
    assert not rig.plant.qd.any()
    motion = rig.motions[-1]
    assert motion["target"] == pytest.approx(FAR.tolist())
    assert HOME[0] < motion["end"][0] < FAR[0]
    assert motion["t1"] - motion["t0"] == pytest.approx(0.5, abs=0.02)


def test_two_threads_cannot_move_the_arm(rig):
    rig.put(Command.SPEEDJ, [0.1, 0, 0, 0, 0, 0, 0.5])
    rig.run(0.1)
    rig.put(Command.MOVEJ, [*FAR, 0.5, 1.0])
    rig.run(0.1)
    assert rig.c.runtime is Runtime.STOPPED
    assert any("another thread" in line for line in rig.said)


def test_a_slow_controller_keeps_the_path_and_says_so(rig):
    full_s = rig.command(Command.MOVEJ, [*FAR, 0.5, 1.0])
    rig.faults.set("slow", True, {"factor": 4})
    rig.run(0.2)
    assert rig.c.limiter_now == 0.25
    assert rig.command(Command.MOVEJ, [*HOME, 0.5, 1.0]) == pytest.approx(4 * full_s, rel=0.01)
    rig.c.slider = 0.5  # the slider comes on top
    rig.run(0.2)
    assert rig.c.motion.scale == pytest.approx(0.125)
    with pytest.raises(ValueError, match="factor"):
        rig.faults.set("slow", True, {"factor": 0})


# ---- faults ---------------------------------------------------------------------------------------------------------

MOTIONS = {
    "movej": (Command.MOVEJ, [*FAR, 1.0, 2.0], 0),
    "movej async": (Command.MOVEJ, [*FAR, 1.0, 2.0], 1),
    "movel": (Command.MOVEL, None, 0),
    "servo": (Command.SERVOJ, [*(HOME + 1.5), 0, 0, 0.008, 0.2, 300], 0),
    "speed": (Command.SPEEDJ, [1.0, 0, 0, 0, 0, 0, 2.0], 0),
}
ENDS = {
    "protective_stop": (Safety.PROTECTIVE_STOP, Mode.RUNNING, Runtime.STOPPED),
    "emergency_stop": (Safety.ROBOT_EMERGENCY_STOP, Mode.POWER_OFF, Runtime.STOPPED),
    "safeguard_stop": (Safety.SAFEGUARD_STOP, Mode.RUNNING, Runtime.PAUSED),
    "violation": (Safety.VIOLATION, Mode.POWER_OFF, Runtime.STOPPED),
    "power_off": (Safety.NORMAL, Mode.POWER_OFF, Runtime.STOPPED),
    "program_death": (Safety.NORMAL, Mode.RUNNING, Runtime.STOPPED),
    "local_control": (Safety.NORMAL, Mode.RUNNING, Runtime.STOPPED),
}


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("fault", ENDS)
def test_a_fault_brakes_the_arm_and_can_be_mended(rig, fault, motion):
    command, values, asynchronous = MOTIONS[motion]
    if values is None:
        pose = pose_of_rows(rig.c.motion.kinematics.tcp(HOME))
        values = [pose[0], pose[1] + 0.3, *pose[2:], 0.3, 1.0]
    rig.put(command, values, asynchronous)
    rig.run(0.4)
    assert np.abs(rig.plant.qd).max() > 0.2
    speeds = [np.abs(rig.plant.qd).max()]
    rig.faults.set(fault, True, {})
    rig.run(0.5, lambda: speeds.append(np.abs(rig.plant.qd).max()))
    stopped_s = next(i for i, speed in enumerate(speeds) if speed == 0) * rig.c.dt_s
    assert 0.01 < stopped_s < 0.4  # neither at once nor late
    assert all(speed == 0 for speed in speeds[-10:])
    assert (rig.c.safety, rig.c.mode, rig.c.runtime) == ENDS[fault]
    at = rig.plant.q.copy()
    rig.put(Command.NONE)
    rig.faults.clear()
    rig.run(1.0)
    assert (rig.c.safety, rig.c.mode, rig.c.runtime) == (Safety.NORMAL, Mode.RUNNING, Runtime.STOPPED)
    assert np.array_equal(rig.plant.q, at)  # nothing goes on by itself
    rig.upload()
    rig.command(Command.MOVEJ, [*HOME, 1.0, 2.0])
    assert np.allclose(rig.plant.q, HOME)


def test_a_safeguard_that_closes_lets_a_paused_program_go_on(rig):
    rig.put(Command.MOVEJ, [*FAR, 0.5, 1.0])
    rig.run(0.5)
    rig.faults.set("safeguard_stop", True, {})
    rig.run(0.5)
    assert not rig.plant.qd.any()
    assert rig.c.limiter_now == 0
    rig.faults.set("safeguard_stop", False, {})
    rig.until(lambda: rig.c.registers.out_int[0] == DONE)
    assert np.allclose(rig.plant.q, FAR)  # which is why a driver must end the program


def test_a_protective_stop_cannot_be_unlocked_at_once(rig):
    rig.faults.set("protective_stop", True, {})
    rig.run(UNLOCK_AFTER_S - 0.1)
    assert not rig.c.unlock()
    assert rig.c.safety is Safety.PROTECTIVE_STOP
    rig.run(0.2)
    assert rig.c.unlock()
    assert rig.c.safety is Safety.NORMAL


def test_power_comes_and_goes_step_by_step():
    rig = Rig(powered=False)
    rig.c.load_script(SCRIPT)
    rig.run(0.5)
    assert rig.c.runtime is Runtime.STOPPED  # refused: off
    rig.c.power_on()
    assert rig.c.mode is Mode.POWER_ON
    rig.until(lambda: rig.c.mode is Mode.IDLE)
    rig.c.release_brakes()
    rig.until(lambda: rig.c.mode is Mode.RUNNING)
    rig.faults.set("emergency_stop", True, {})
    rig.run(0.1)
    rig.c.power_on()
    rig.c.release_brakes()
    rig.run(4.0)
    assert rig.c.mode is Mode.POWER_OFF  # the button is still in
    rig.faults.set("emergency_stop", False, {})
    rig.c.release_brakes()
    assert rig.until(lambda: rig.c.mode is Mode.RUNNING) == pytest.approx(2.5, abs=0.01)


def test_an_emergency_stop_while_powering_on_wins():
    rig = Rig(powered=False)
    rig.c.release_brakes()
    rig.run(0.5)
    rig.faults.set("emergency_stop", True, {})
    rig.run(5.0)
    assert rig.c.mode is Mode.POWER_OFF


# ---- programs -------------------------------------------------------------------------------------------------------


def test_the_watchdog_ends_the_program_of_a_silent_client(rig):
    rig.command(Command.SET_WATCHDOG, [10.0])
    rig.run(0.5, lambda: rig.put(Command.SPEEDJ, [0.3, 0, 0, 0, 0, 0, 2.0]))
    assert rig.plant.qd[0] == pytest.approx(0.3)
    silent_s = rig.until(lambda: rig.c.runtime is Runtime.STOPPED)
    assert silent_s == pytest.approx(0.1, abs=0.01)
    rig.run(0.1)
    assert not rig.plant.qd.any()


def test_without_a_watchdog_the_arm_moves_on(rig):
    rig.run(0.2, lambda: rig.put(Command.SPEEDJ, [0.3, 0, 0, 0, 0, 0, 2.0]))
    rig.run(2.0)
    assert rig.plant.qd[0] == pytest.approx(0.3)


def test_answers_of_the_control_script(rig):
    registers = rig.c.registers
    rig.command(Command.SET_TCP, [0, 0, 0.1638, 0, 0, 0])
    rig.command(Command.GET_TCP_OFFSET)
    assert registers.out_double[:6] == pytest.approx([0, 0, 0.1638, 0, 0, 0])
    rig.command(Command.GET_FORWARD_KINEMATICS_DEFAULT)
    pose = registers.out_double[:6]
    assert pose == pytest.approx(pose_of_rows(rig.c.motion.kinematics.tcp(HOME)))
    rig.command(Command.GET_INVERSE_KINEMATICS_DEFAULT, pose)
    assert registers.out_double[:6] == pytest.approx(HOME.tolist(), abs=1e-5)
    rig.command(Command.HAS_INVERSE_KINEMATICS_DEFAULT, [9, 0, 0, 0, 0, 0])
    assert registers.out_int[1] == 0
    rig.command(Command.SET_PAYLOAD, [0.95, 0, 0, 0.06])
    assert (rig.c.payload_kg, rig.c.payload_cog_m) == (0.95, [0, 0, 0.06])
    rig.command(Command.IS_STEADY)
    assert registers.out_int[1] == 1
    rig.put(Command.STOP_SCRIPT)
    rig.run(0.1)
    assert rig.c.runtime is Runtime.STOPPED


def test_what_is_not_emulated_is_not_swallowed(rig):
    rig.put(7)
    rig.run(0.1)
    assert rig.c.runtime is Runtime.STOPPED
    assert "command 7" in rig.c.warnings[0]
    rig.c.load_script("def f():\n  servoc(p[0,0,0,0,0,0])\nend\n")
    rig.run(0.2)
    assert any("not emulated: servoc()" in line for line in rig.said)


@pytest.mark.parametrize("command", [Command.MOVEJ, Command.MOVEL, Command.SERVOJ, Command.SPEEDJ, Command.SPEEDL])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_targets_that_are_no_numbers_move_nothing(rig, command, bad):
    rig.put(command, [bad, *HOME[1:], 0.5, 1.0, 0.008, 0.1, 300])
    rig.run(0.2)
    assert rig.c.runtime is Runtime.STOPPED
    assert np.array_equal(rig.plant.q, HOME)


def test_scripts_by_hand():
    rig = Rig()
    rig.c.load_script("def go():\n  movej([1.0,-1.57,1.57,-1.57,-1.57,0], a=2.0, v=1.0)\n  sleep(0.1)\nend\n")
    rig.until(lambda: rig.c.runtime is Runtime.PLAYING)
    assert rig.c.program_name == "go"
    rig.until(lambda: rig.c.runtime is Runtime.STOPPED)
    assert rig.plant.q[0] == pytest.approx(1.0)
    rig.c.load_script("set_digital_out(3, True)\n")
    rig.run(0.01)
    assert rig.c.digital_out == 8


def test_programs_end_at_their_own_end():
    splitter = Splitter()
    text = "def f():\n  # end\n  while True:\n    sync()\n  end\nend\ntextmsg(1)\n"
    whole = [text for line in text.splitlines() if (text := splitter.add(line)) is not None]
    assert [w.splitlines()[0] for w in whole] == ["def f():", "textmsg(1)"]
    assert whole[0].count("end") == 3


# ---- gripper --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hand():
    rig = Rig()
    rig.gripper.write({"ACT": 1})
    assert rig.until(lambda: rig.gripper.read("STA") == 3) == pytest.approx(1.0, abs=0.01)
    return rig


def test_counts_and_metres():
    assert [count_of(w) for w in (0.085, 0.0, 1.0, -1.0)] == [3, 230, 3, 230]
    assert [round(width_of(c), 4) for c in (0, 3, 230, 255)] == [0.085, 0.085, 0.0, 0.0]
    assert all(abs(width_of(count_of(w)) - w) < 0.085 / 227 for w in np.linspace(0, 0.085, 50))


@pytest.mark.parametrize(("speed", "takes_s"), [(255, 0.085 / 0.150), (0, 0.085 / 0.020)])
def test_fingers_have_a_speed(hand, speed, takes_s):
    hand.gripper.write({"POS": 255, "SPE": speed, "FOR": 0, "GTO": 1})
    hand.run(0.02)
    assert hand.gripper.read("OBJ") == 0
    assert hand.until(lambda: hand.gripper.read("OBJ") == 3) == pytest.approx(takes_s, rel=0.1)
    assert hand.gripper.read("POS") >= 226
    hand.run(0.1)
    assert hand.gripper.read("POS") == 230
    motion = hand.motions[-1]
    assert (motion["kind"], motion["start"], motion["end"]) == ("gripper", [0.085], [0.0])


def test_an_object_is_felt_and_let_go(hand):
    hand.plant.answer("object", {"width_m": 0.04})
    hand.gripper.write({"POS": 255, "SPE": 255, "GTO": 1})
    hand.until(lambda: hand.gripper.read("OBJ") == 2)
    assert hand.gripper.read("POS") == count_of(0.04)
    hand.plant.answer("object", {"width_m": None})  # it slips out
    hand.run(0.02)
    assert hand.gripper.read("OBJ") == 0
    hand.until(lambda: hand.gripper.read("OBJ") == 3)
    hand.gripper.write({"POS": 0, "GTO": 1})
    hand.until(lambda: hand.gripper.read("OBJ") == 3)
    hand.gripper.write({"POS": 0, "GTO": 1})  # the same again is no motion
    assert [m["kind"] for m in hand.motions] == ["gripper"] * 2


def test_a_stop_and_a_jam_hold_the_fingers_where_they_are(hand):
    hand.gripper.write({"POS": 255, "SPE": 0, "GTO": 1})
    hand.run(1.0)
    hand.gripper.write({"GTO": 0})
    hand.run(0.1)
    width_m = hand.plant.fingers.opening_m
    assert 0.05 < width_m < 0.07
    hand.gripper.write({"GTO": 1})
    hand.run(0.5)
    hand.faults.set("gripper_jam", True, {})
    jammed_m = hand.plant.fingers.opening_m
    assert jammed_m < width_m
    hand.gripper.write({"POS": 0, "GTO": 1})
    hand.run(3.0)
    assert hand.plant.fingers.opening_m == jammed_m
    assert hand.gripper.read("OBJ") == 0
    hand.faults.clear()
    hand.until(lambda: hand.gripper.read("OBJ") == 3)
    assert hand.plant.fingers.opening_m == pytest.approx(0.085)


def test_without_activation_or_power_the_hand_does_nothing():
    rig = Rig()
    rig.gripper.write({"POS": 255, "GTO": 1})
    rig.run(1.0)
    assert rig.plant.fingers.opening_m == 0.085
    assert rig.gripper.read("FLT") == 7
    rig.gripper.write({"ACT": 1})
    rig.run(1.1)
    assert (rig.gripper.read("STA"), rig.gripper.read("FLT")) == (3, 0)
    rig.faults.set("power_off", True, {})
    rig.run(0.1)
    assert rig.gripper.read("STA") is None
    rig.faults.clear()
    rig.run(0.1)
    assert rig.gripper.read("STA") == 0  # it has forgotten its activation
