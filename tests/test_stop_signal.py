"""Ctrl-C and SIGTERM during a run: the arm stops first, the run ends as stopped with everything written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from affordagent.agent.resume import read_run
from affordagent.agent.stopping import StopSignals
from affordagent.core.journal import read_motions
from affordagent.evaluations.kill_moments import OBJECT_M, prepare
from affordagent.robot.emulator.process import start_emulator

SIM = '{"cell": "sim", "scene": "bench", "seed": 0}'
WAIT_S = 120.0


class Told:
    """An arm's stop that counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_the_arm_is_told_before_anything_is_raised() -> None:
    told = Told()
    with StopSignals(told) as signals:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert (told.times, signals.fired) == (1, True)
    with StopSignals(told), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    assert told.times == 2


def test_a_motion_comes_back_by_itself_and_the_second_signal_raises() -> None:
    told = Told()
    with StopSignals(told) as signals:
        signals.stage = "execute"
        os.kill(os.getpid(), signal.SIGINT)
        assert (told.times, signals.fired) == (1, True)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        signals.closing = True
        os.kill(os.getpid(), signal.SIGINT)  # the run is being written down
        assert told.times == 3


def test_handlers_are_given_back_and_another_thread_has_none() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals(Told()):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before

    def elsewhere() -> None:
        with StopSignals(Told()):
            assert signal.getsignal(signal.SIGINT) is before

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(5)


@contextmanager
def grasp_process(folder: Path, settings: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("grasp_process.py")), "run", str(folder), settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(WAIT_S, process.kill)
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], stage: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == stage:
            return
    raise AssertionError(f"{stage} never began: {process.stderr.read() if process.stderr else ''}")


def result_of(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=WAIT_S)
    assert out.strip(), err
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize(("stage", "number"), [("look", signal.SIGINT), ("execute", signal.SIGTERM)])
def test_a_simulated_run_ends_as_stopped(tmp_path: Path, stage: str, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    with grasp_process(folder, SIM) as process:
        wait_for(process, stage)
        process.send_signal(number)
        result = result_of(process)
        assert process.returncode == 130, result
    assert (result["outcome"], result["failure"]["code"]) == ("failure", "execution.stopped")
    assert result["failure"]["stage"] == stage
    left = read_run(folder)
    assert left.ended is not None
    assert left.ended.as_json() == result
    assert all(motion.ended for motion in left.motions)
    if stage == "execute":
        assert all(m.result and m.result["code"] in (None, "execution.stopped") for m in left.motions)
    else:
        assert left.motions == []


def test_the_real_arm_stands_after_two_signals(tmp_path: Path, loopback: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    settings, _ = prepare(tmp_path, loopback)
    folder = tmp_path / "run"
    with start_emulator(loopback) as emulator, grasp_process(folder, settings.model_dump_json()) as process:
        emulator.admin.object(OBJECT_M)
        wait_for(process, "execute")
        while max(map(abs, emulator.admin.state()["qd"])) < 0.1:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        told_s = emulator.admin.state()["t"]
        while max(map(abs, emulator.admin.state()["qd"])) > 0.01:
            assert emulator.admin.state()["t"] < told_s + 2.0, "by the controller's clock"
        assert emulator.admin.state()["t"] < told_s + 0.5
        result = result_of(process)
        assert process.returncode == 130
        assert result["failure"]["code"] == "execution.stopped"
        (motion,) = [m for m in emulator.admin.motions() if m["kind"] == "servo"]
        left = read_run(folder)
        assert left.ended is not None
        assert [m.step for m in read_motions(folder / "motions.sqlite")] == ["open", "to_pregrasp"]
        goal = left.motions[-1].goal["positions"]
        assert max(abs(a - b) for a, b in zip(motion["end"], goal, strict=True)) > 0.1, "cut off on its way"
