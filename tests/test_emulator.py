"""The emulated controller over its sockets: RTDE, dashboard, scripts, Robotiq, admin; and the unmodified ur_rtde."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affordagent.agent.cli import main
from affordagent.core.errors import AffordAgentError
from affordagent.robot.emulator.admin import AdminConnection
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.emulator.controller import Controller, Runtime, Safety
from affordagent.robot.emulator.dashboard import DashboardConnection
from affordagent.robot.emulator.faults import Faults, Link
from affordagent.robot.emulator.plain_plant import PlainPlant
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.emulator.robotiq import Robotiq, RobotiqConnection
from affordagent.robot.emulator.rtde import RtdeConnection
from affordagent.robot.emulator.script_port import ScriptConnection
from affordagent.robot.emulator.server import check_loopback
from affordagent.robot.interface import LOOK_Q

CLIENT = Path(__file__).with_name("ur_rtde_client.py")


def controller(arm="UR5e", version=(5, 11, 0, 0)):
    return Controller(arm, version, PlainPlant(LOOK_Q), say=lambda line: None)


class Wire:
    """A connection to an RTDE service in this process: `tell` messages, `heard` whole answers."""

    def __init__(self, c, owners=None):
        self.near, far = socket.socketpair()
        far.setblocking(False)
        self.near.settimeout(2)
        self.far = RtdeConnection(far, c, {} if owners is None else owners)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.near.close()
        self.far.sock.close()

    def tell(self, kind, body=b""):
        self.far.feed(message(kind, body))

    def heard(self):
        return read_message(self.near)

    def ask(self, kind, body=b""):
        self.tell(kind, body)
        answer, body = self.heard()
        assert answer == ord(kind)
        return body


def message(kind, body=b""):
    return struct.pack(">HB", 3 + len(body), ord(kind)) + body


def read_message(sock):
    size, kind = struct.unpack(">HB", exactly(sock, 3))
    return kind, exactly(sock, size - 3)


def exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, "the connection was closed"
        data += more
    return data


# ---- RTDE -----------------------------------------------------------------------------------------------------------


def test_rtde_says_what_it_is():
    with Wire(controller()) as wire:
        assert wire.ask("V", struct.pack(">H", 2)) == b"\x01"
        assert wire.ask("V", struct.pack(">H", 1)) == b"\x00"
        assert struct.unpack(">4I", wire.ask("v")) == (5, 11, 0, 0)


@pytest.mark.parametrize(("arm", "version", "dt_s"), [("UR5e", (5, 11, 0, 0), 0.002), ("UR5", (3, 15, 0, 0), 0.008)])
def test_rtde_streams_at_the_asked_rate(arm, version, dt_s):
    c = controller(arm, version)
    with Wire(c) as wire:
        names = "timestamp,actual_q,robot_mode,safety_mode,runtime_state,actual_TCP_force,"
        types = wire.ask("O", struct.pack(">d", 62.5) + names.encode())
        assert types == b"\x01DOUBLE,VECTOR6D,INT32,INT32,UINT32,VECTOR6D"
        wire.ask("S")
        stamps = []
        for _ in range(round(0.5 / dt_s)):
            c.tick()
            wire.far.publish()
        while len(stamps) < 31:
            kind, body = wire.heard()
            assert kind == ord("U")
            recipe, t, *rest = struct.unpack(">Bd6diiI6d", body)
            assert rest[:6] == pytest.approx(LOOK_Q.tolist())
            assert rest[6:9] == [7, 1, 1]
            stamps.append(t)
        assert np.diff(stamps) == pytest.approx(0.016)


def test_unknown_variables_and_foreign_registers_are_told():
    c, owners = controller(), {}
    with Wire(c, owners) as first, Wire(c, owners) as second:
        assert first.ask("O", struct.pack(">d", 125.0) + b"timestamp,nonsense,") == b"\x01DOUBLE,NOT_FOUND"
        assert first.ask("I", b"input_int_register_0,") == b"\x01INT32"
        assert second.ask("I", b"input_int_register_0,speed_slider_mask,") == b"\x00IN_USE,UINT32"
        assert second.ask("I", b"input_int_register_1,nonsense,") == b"\x00INT32,NOT_FOUND"
        first.far.dead = True
        assert second.ask("I", b"input_int_register_0,") == b"\x03INT32"


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 200), max_size=12), values=st.lists(st.floats(-9, 9), min_size=6, max_size=6))
def test_inputs_arrive_however_they_are_cut(cuts, values):
    c = controller()
    with Wire(c) as wire:
        names = ["input_int_register_0", *(f"input_double_register_{i}" for i in range(6))]
        data = message("I", (",".join(names) + ",").encode())
        data += message("I", b"standard_digital_output_mask,standard_digital_output,")
        data += message("U", struct.pack(">Bi6d", 1, 11, *values))
        data += message("U", struct.pack(">BBB", 2, 0b101, 0b111))
        ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
        for start, end in zip([0, *ends], ends, strict=False):
            wire.far.feed(data[start:end])
        assert c.registers.in_int[0] == 11
        assert c.registers.in_double[:6] == values
        assert c.digital_out == 0b101
        assert not c.warnings


def test_short_and_unknown_packets_are_warned_of():
    c = controller()
    with Wire(c) as wire:
        wire.ask("I", b"input_int_register_0,input_double_register_0,")
        wire.tell("U", struct.pack(">Bi", 1, 5))
        wire.tell("U", struct.pack(">Bi", 9, 5))
        wire.tell("?")
        assert [w.split(":")[1][:14] for w in c.warnings] == [" input recipe ", " data for inpu", " unknown messa"]
        assert c.registers.in_int[0] == 0
        wire.far.feed(struct.pack(">HB", 1, 85))  # a size that cannot be
        assert wire.far.dead


# ---- dashboard ------------------------------------------------------------------------------------------------------


class Desk:
    """A dashboard connection in this process."""

    def __init__(self, c):
        self.near, self.far = socket.socketpair()
        self.connection = DashboardConnection(self.far, c)

    def __call__(self, command):
        return self.connection.reply(command)


def test_dashboard_answers():
    c = controller()
    ask = Desk(c)
    assert ask.near.recv(99) == b"Connected: Universal Robots Dashboard Server\n"
    assert [ask(q) for q in ("robotmode", "safetymode", "running", "is in remote control", "get robot model")] == [
        "Robotmode: RUNNING", "Safetymode: NORMAL", "Program running: false", "true", "UR5",
    ]  # fmt: skip
    assert ask("PolyscopeVersion").startswith("URSoftware 5.11.0.0 ")
    assert ask("play") == "Failed to execute: play"
    assert ask("load x.urp") == "File not found: x.urp"
    assert ask("dance") == "could not understand: 'dance'"
    c.stop_for_safety(Safety.PROTECTIVE_STOP)
    assert ask("unlock protective stop").startswith("Cannot unlock protective stop until 5s")
    for _ in range(2600):
        c.tick()
    assert ask("unlock protective stop") == "Protective stop releasing"
    c.stop_for_safety(Safety.VIOLATION)
    c.tick()
    assert ask("robotmode") == "Robotmode: POWER_OFF"
    ask("power on")
    assert ask("robotmode") == "Robotmode: POWER_OFF"
    assert ask("restart safety") == "Restarting safety"
    ask("power on")
    assert ask("robotmode") == "Robotmode: POWER_ON"
    ask.connection.feed(b"robotmode\nquit\r\n")
    assert ask.near.recv(99) == b"Robotmode: POWER_ON\nDisconnected\n"


def test_dashboard_in_local_control_only_looks():
    c = controller()
    before = Desk(c)
    c.remote = False
    during = Desk(c)
    for ask in (before, during):
        assert ask("power off").startswith("Command is not allowed")
        assert ask("robotmode") == "Robotmode: RUNNING"
    c.remote = True
    assert before("close popup") == "closing popup"
    assert during("power off").startswith("Command is not allowed")  # a real one wants a new connection, too
    assert before("power off") == "Powering off"


def test_dashboard_of_a_cb3_knows_no_remote_control():
    c = controller("UR5", (3, 15, 0, 0))
    c.remote = False
    assert Desk(c)("is in remote control").startswith("could not understand")
    assert Desk(c)("power off") == "Powering off"


def test_dashboard_pauses_and_plays():
    c = controller()
    c.load_script("def f():\n  sleep(5)\nend\n")
    for _ in range(60):
        c.tick()
    ask = Desk(c)
    assert ask("programState") == "PLAYING f"
    assert ask("pause") == "Pausing program"
    assert c.runtime is Runtime.PAUSED
    assert ask("play") == "Starting program"
    assert ask("stop") == "Stopped"
    assert ask("programState") == "STOPPED <unnamed>"


# ---- the process ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulator(loopback):
    with start_emulator(loopback, speedup=2.0) as emulator:
        yield emulator


@pytest.fixture
def admin(emulator):
    emulator.admin.clear()
    emulator.admin.place(LOOK_Q)
    return emulator.admin


def connect(host, port):
    return socket.create_connection((host, port), timeout=5)


def seconds(client, duration_s):
    """Let the controller's clock run on."""
    end_s = client.state()["t"] + duration_s
    while client.state()["t"] < end_s:
        time.sleep(0.01)


def test_only_on_loopback():
    for host in ("0.0.0.0", "192.168.0.2", "robot", ""):
        with pytest.raises(AffordAgentError, match="loopback only"):
            check_loopback(host)
    check_loopback("127.0.0.1")


def test_a_taken_port_is_said(emulator):
    with pytest.raises(AffordAgentError, match="another emulator may be running"):
        start_emulator(emulator.host)


def test_bad_requests_are_answered(admin, emulator):
    for op, arguments, words in (
        ("dance", {}, "plain plant"),
        ("scene", {"name": "bench", "seed": 0}, "plain plant"),
        ("fault", {"name": "flood"}, "no fault 'flood'"),
        ("fault", {}, "needs 'name'"),
        ("place", {"q": [0, 0]}, "six joints"),
        ("place", {"q": [9e9] * 6}, "six joints"),
        ("place", {"q": "home"}, "could not convert"),
    ):
        with pytest.raises(AffordAgentError, match=words):
            admin.request(op, **arguments)
    with connect(emulator.host, 29998) as sock:
        sock.sendall(b"not json\n[1]\n")
        answers = sock.makefile()
        lines = answers.readline(), answers.readline()
        assert all('"ok": false' in line for line in lines)


def test_a_program_over_the_script_port(admin, emulator):
    goal = LOOK_Q + [0.4, 0, 0, 0, 0, 0]
    before = len(admin.motions())
    with connect(emulator.host, 30002) as sock:
        sock.sendall(f"def go():\n movej({goal.tolist()}, a=3.0, v=1.5)\nend\n".encode())
        seconds(admin, 1.5)
    assert admin.state()["q"] == pytest.approx(goal.tolist())
    (motion,) = admin.motions()[before:]
    assert (motion["kind"], motion["end"]) == ("movej", pytest.approx(goal.tolist()))
    admin.place(LOOK_Q)
    assert admin.state()["q"] == pytest.approx(LOOK_Q.tolist())


def test_the_grippers_socket(admin, emulator):
    with connect(emulator.host, 63352) as sock:

        def ask(text):
            sock.sendall(text)
            time.sleep(0.05)
            return sock.recv(999)

        assert ask(b"SET ACT 0\n") == b"ack"
        assert ask(b"SET ACT 1\n") == b"ack"
        assert ask(b"GET STA\nGET ACT\n") == b"STA 1\nACT 1\n"
        seconds(admin, 1.1)
        assert ask(b"GET STA\n") == b"STA 3\n"
        admin.object(0.031)
        assert ask(b"SET POS 255 SPE 255 FOR 0 GTO 1\n") == b"ack"
        seconds(admin, 1.0)
        assert ask(b"GET OBJ\nGET POS\nGET PRE\n") == b"OBJ 2\nPOS 147\nPRE 255\n"
        assert admin.state()["gripper"]["width_m"] == pytest.approx(0.031)
        admin.object(None)
        assert ask(b"DANCE\n") == b"?\n"
        admin.fault("gripper_drop")
        assert sock.recv(9) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(emulator.host, 63352)
    admin.fault("gripper_drop", on=False)
    seconds(admin, 0.1)
    connect(emulator.host, 63352).close()


def listen_to_rtde(host):
    """A socket that gets the timestamp in every tick."""
    sock = connect(host, 30004)
    sock.sendall(message("V", struct.pack(">H", 2)) + message("O", struct.pack(">d", 500.0) + b"timestamp,"))
    sock.sendall(message("S"))
    for kind in (b"V", b"O", b"S"):
        assert read_message(sock)[0] == kind[0]
    return sock


def drain(sock):
    while True:
        read_message(sock)


def test_link_faults(admin, emulator):
    with listen_to_rtde(emulator.host) as sock:
        admin.fault("link_drop")
        with pytest.raises((AssertionError, ConnectionResetError)):
            drain(sock)
    with listen_to_rtde(emulator.host) as sock, connect(emulator.host, 29999) as desk:
        desk.recv(99)
        admin.fault("link_stall")
        seconds(admin, 0.2)
        sock.settimeout(0.2)
        desk.settimeout(0.2)
        desk.sendall(b"robotmode\n")
        with pytest.raises(TimeoutError):
            drain(sock)
        with pytest.raises(TimeoutError):
            desk.recv(99)
        admin.fault("link_stall", on=False)
        sock.settimeout(5)
        desk.settimeout(5)
        assert desk.recv(99) == b"Robotmode: RUNNING\n"
        assert read_message(sock)[0] == ord("U")
        admin.fault("link_refuse")
        seconds(admin, 0.1)
        with pytest.raises(ConnectionRefusedError):
            connect(emulator.host, 30004)
        desk.sendall(b"running\n")  # the other ports go on
        assert desk.recv(99) == b"Program running: false\n"
    admin.clear()
    seconds(admin, 0.1)
    listen_to_rtde(emulator.host).close()


def test_the_clock_runs_and_never_bursts(emulator):
    admin = emulator.admin
    begin, begin_s = admin.state(), time.monotonic()
    time.sleep(1.0)
    end, end_s = admin.state(), time.monotonic()
    ran_s = end["t"] - begin["t"]
    assert ran_s == pytest.approx((end["ticks"] - begin["ticks"]) * 0.002)
    assert 0.2 < ran_s < 2.02 * (end_s - begin_s)


def test_it_ends_with_its_parent(second_loopback):
    host = second_loopback
    script = (
        "import sys, time\nfrom affordagent.robot.emulator.process import start_emulator\n"
        f"emulator = start_emulator({host!r})\nprint(emulator.pid, flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s and alive(child):
        time.sleep(0.05)
    assert not alive(child)


def test_the_command_says_what_to_type_and_ends_with_ctrl_c(second_loopback):
    host = second_loopback
    command = [sys.executable, "-m", "affordagent.agent.cli", "emulator", "--host", host, "--plain", "--model", "UR10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"a UR10 with PolyScope 3.15.0.0 listens on {host}: no objects")
        process.send_signal(signal.SIGINT)
        try:
            out, errors = process.communicate(timeout=20)
        finally:
            process.kill()
        assert (process.returncode, out.splitlines()[-1], errors) == (0, "the emulator ends", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "loopback only"),
        (["--model", "UR7"], "must be one of UR3,"),
        (["--model", "UR5", "--version", "5.11"], "a UR5 runs PolyScope 3.x"),
        (["--version", "five"], "must be like 5.11"),
        (["--plain", "--scene", "bench"], "leave out --scene"),
        (["--speedup", "0"], "must be 0.01 to 100"),
    ],
)
def test_bad_arguments_are_told(arguments, words, capsys):
    assert main(["emulator", *arguments]) == 2
    assert words in capsys.readouterr().err


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("model", "version"), [("UR5e", "5.11"), ("UR5", "3.15")])
def test_ur_rtde_drives_it(second_loopback, model, version):
    """The client runs in a process of its own: it may hang or crash."""
    pytest.importorskip("rtde_control")
    host = second_loopback
    with start_emulator(host, model=model, version=version) as emulator:
        done = subprocess.run(
            [sys.executable, str(CLIENT), host], capture_output=True, text=True, timeout=60, env={**os.environ}
        )
        assert "ALL GOOD" in done.stdout, (done.stdout, done.stderr, emulator.output()[-2000:])
        with EmulatorClient(host) as admin:
            kinds = [motion["kind"] for motion in admin.motions()]
        assert kinds == ["movej", "movel", "movej", "speed", "servo", "movej", "movej"]


# ---- nonsense -------------------------------------------------------------------------------------------------------

WORDS = [
    "def f():", "end", "movej([1,2], a=1)", "movej(p[0,0,9,0,0,0])", "movel([nan,0,0,0,0,0])", "sleep(x)",
    "stopj(nan)", "write_output_integer_register(99,1)", "set_digital_out(-1, True)", "SET POS", "SET POS 1e9", "GET",
    "SET ACT 1 GTO", f"SET POS {'9' * 400}", "brake release", "unlock protective stop", "load", "popup", "power off",
    '{"op": 3}', '{"op": "place"}', '{"op": "fault", "name": []}', '{"op": "object"}', "[[]]", "\udcff",
    '{"op": "fault", "name": "slow", "factor": "x"}', '{"op": "force", "force_n": [1]}',
]  # fmt: skip
lines = st.lists(st.sampled_from(WORDS) | st.text(max_size=30), max_size=12)
rtde_kinds = st.sampled_from("VvOISPU?")
rtde_bodies = st.binary(max_size=40) | st.floats().map(lambda f: struct.pack(">d", f) + b"timestamp,")


@settings(max_examples=60)
@given(text=lines, messages=st.lists(st.tuples(rtde_kinds, rtde_bodies), max_size=8))
def test_nonsense_does_not_end_it(text, messages):
    """Whatever comes in on any port, the controller goes on ticking with the arm where it can be."""
    c = controller()
    server = Unconnected(c)
    for connection in server.lines():
        connection.feed("\n".join([*text, ""]).encode("utf-8", "surrogateescape"))
    with Wire(c) as wire:
        for kind, body in messages:
            wire.tell(kind, body)
        for _ in range(120):
            c.tick()
            server.gripper.tick()
            wire.far.publish()
    assert np.isfinite(c.plant.q).all()


class Unconnected:
    """What `server.Server` gives its admin connections, without sockets."""

    def __init__(self, c):
        self.controller, self.gripper = c, Robotiq(c)
        self.faults = Faults(c, self.gripper, Link())
        self.late, self.ticks, self.busy_s, self.quit = 0, 0, 0.0, False

    def lines(self):
        c = self.controller
        for make in (
            lambda sock: DashboardConnection(sock, c),
            lambda sock: ScriptConnection(sock, c),
            lambda sock: RobotiqConnection(sock, self.gripper),
            lambda sock: AdminConnection(sock, self),
        ):
            near, far = socket.socketpair()
            with near, far:
                yield make(far)
