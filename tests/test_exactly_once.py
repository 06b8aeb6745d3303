"""A process that moves an arm is killed at every moment there is; whatever comes after it, no motion is sent twice."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_arm_world import ArmWorld, WorldArm

from affordagent.agent.cli import main
from affordagent.agent.resume import LeftRun, read_run, refuse_after_a_crash, settings_to_resume, why_lost
from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.journal import MotionJournal, read_motions
from affordagent.core.run_store import RunStore
from affordagent.core.types import STAGES, Delivery, Grasp, GraspPlan, JointTrajectory
from affordagent.evaluations.kill_moments import Moment, kill_moments
from affordagent.robot.hand_over import HandOver
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.ur5.commander import Commander
from affordagent.tools import execution
from affordagent.tools.execution import execute, settle
from affordagent.tools.steps import delivery_steps, grasp_steps, withdrawal_steps

FORK = multiprocessing.get_context("fork")
EARLY_KILLS = 24  # a seed: the first two kills come at a third and a sixth of the time that a whole run took
PLACES = ("before begin", "after begin", "under way", "before end", "after end")


@pytest.fixture(autouse=True)
def _short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "REST_S", 0.02)


@pytest.fixture
def plan() -> GraspPlan:
    def motion(start: float, end: float) -> JointTrajectory:
        return JointTrajectory(np.stack([LOOK_Q + start, LOOK_Q + end]), np.array([0.0, 1.0]))

    return GraspPlan(Grasp(np.eye(4), 0.03, 0.9), 0, 0.05, motion(0, 0.5), motion(0.5, 0.7), motion(0.7, 1.0))


class DyingJournal(MotionJournal):
    """Ends its process at one place of one step."""

    def __init__(self, file: Path, step: str, place: str) -> None:
        super().__init__(file)
        self._step, self._place = step, place

    def _die(self, step: str, place: str) -> None:
        if (step, place) == (self._step, self._place):
            os.kill(os.getpid(), signal.SIGKILL)

    def begin(self, step: str, goal: dict[str, Any], start: dict[str, Any]) -> None:
        self._die(step, "before begin")
        super().begin(step, goal, start)
        self._die(step, "after begin")
        self.under_way = step

    def end(self, step: str, result: dict[str, Any]) -> None:
        self._die(step, "before end")
        super().end(step, result)
        self._die(step, "after end")

    def on_sent(self) -> None:
        self._die(self.under_way, "under way")


def _first(file: Path, world: Path, plan: GraspPlan, step: str, place: str) -> None:
    arm, journal = WorldArm(world), DyingJournal(file, step, place)
    arm.on_sent = journal.on_sent
    try:
        execute(arm, plan, journal)
    except StageFailure:
        os._exit(3)


def _again(file: Path, world: Path, plan: GraspPlan, answer: Any) -> None:
    execution.REST_S = 0.02
    with MotionJournal(file) as journal:
        arm = WorldArm(world)
        try:
            settle(arm, journal)
            answer.put(("done", execute(arm, plan, journal).closed_width_m))
        except StageFailure as failure:
            answer.put((failure.code, failure.evidence))


def in_a_process(work: Callable[..., None], *args: Any) -> int | None:
    process = FORK.Process(target=work, args=args)
    process.start()
    process.join(20)
    assert not process.is_alive()
    return process.exitcode


def steps_of(object_m: float, plan: GraspPlan) -> list[str]:
    steps = grasp_steps(plan) if object_m else withdrawal_steps(plan)
    return [step.name for step in steps]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("object_m", [0.03, 0.0], ids=["holding", "nothing there"])
def test_killed_at_every_place_of_every_step(tmp_path: Path, plan: GraspPlan, object_m: float, place: str) -> None:
    for step in steps_of(object_m, plan):
        file, socket_path = tmp_path / f"{step}.sqlite", tmp_path / f"{step}.sock"
        with ArmWorld(socket_path, object_m, step if place == "under way" else "") as world:
            assert in_a_process(_first, file, socket_path, plan, step, place) == -signal.SIGKILL
            told_before = list(world.told)
            answer = FORK.SimpleQueue()
            assert in_a_process(_again, file, socket_path, plan, answer) == 0
            result, evidence = answer.get()
            assert max(Counter(world.told).values(), default=1) == 1, f"{step} {place}: {world.told}"
            goes_on = place in ("before begin", "before end", "after end") or step == "hold"
            if goes_on:
                assert result == ("done" if object_m else "execution.no_contact"), (step, place, evidence)
                assert all(motion.ended for motion in read_motions(file))
            else:
                assert result == "execution.interrupted", (step, place)
                assert evidence["step"] == step
                assert len(evidence["steps"]) == 3
                assert world.told == told_before, "an abandoned run sends nothing"


@pytest.fixture(params=["place", "hand_over"])
def delivering(plan: GraspPlan, request: pytest.FixtureRequest) -> GraspPlan:
    def motion(start: float, end: float) -> JointTrajectory:
        return JointTrajectory(np.stack([LOOK_Q + start, LOOK_Q + end]), np.array([0.0, 1.0]))

    lower, at = (motion(1.4, 1.5), 1.5) if request.param == "place" else (None, 1.4)
    there = Delivery(request.param, np.eye(4), 0, motion(1.0, 1.4), lower, motion(at, at + 0.1), 0.05)
    return dataclasses.replace(plan, delivery=there)


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_every_place_of_every_step_of_a_delivery(tmp_path: Path, delivering: GraspPlan, place: str) -> None:
    assert delivering.delivery is not None
    for step in [s.name for s in delivery_steps(delivering.delivery, HandOver())]:
        file, socket_path = tmp_path / f"{step}.sqlite", tmp_path / f"{step}.sock"
        with ArmWorld(socket_path, 0.03, step if place == "under way" else "", taken_in="offer") as world:
            assert in_a_process(_first, file, socket_path, delivering, step, place) == -signal.SIGKILL
            answer = FORK.SimpleQueue()
            assert in_a_process(_again, file, socket_path, delivering, answer) == 0
            result, evidence = answer.get()
            moved = [phase for phase in world.told if not phase.startswith("offer")]  # to wait is no motion
            assert max(Counter(moved).values()) == 1, f"{step} {place}: {world.told}"
            if place in ("before begin", "before end", "after end") or step in ("offer", "rest"):
                assert result == "done", (step, place, evidence)
                assert [phase for phase in moved if phase != "rest"][-2:] == ["let_go", "back_off"]
                offers = [m.step for m in read_motions(file) if m.step.startswith("offer")]
                waited = ("after begin", "under way", "before end", "after end")
                again = (step == "offer" and place in waited) or (step, place) == ("let_go", "before begin")
                assert offers == ([] if delivering.delivery.lower else ["offer", "offer_2"] if again else ["offer"])
            else:
                assert (result, evidence["step"]) == ("execution.interrupted", step)


# ---- the whole run --------------------------------------------------------------------------------------------------
SIM = '{"cell": "sim", "scene": "bench", "seed": 0}'


def grasp_process(what: str, folder: Path, *options: str) -> tuple[int, list[str]]:
    """Exit code and the lines it printed."""
    command = [sys.executable, str(Path(__file__).with_name("grasp_process.py")), what, str(folder), SIM, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_run_that_died_before_any_motion_goes_on_where_it_was(tmp_path: Path) -> None:
    code, lines = grasp_process("run", tmp_path / "run", "--die-in", "propose")
    assert (code, lines[-1]) == (-signal.SIGKILL, "propose")
    code, lines = grasp_process("resume", tmp_path / "run")
    assert lines[0] == "last stage that ended: lift; motions that ended: none"
    assert lines[1] == "nothing has moved: going on with propose"
    assert lines[2:-1] == ["propose", "plan", "confirm", "execute", "verify"], "nothing is done twice"
    result = json.loads(lines[-1])
    assert (code, result["outcome"]) == (0, "success"), result["failure"]
    assert [s["stage"] for s in result["stages"]] == list(STAGES)
    assert [m.step for m in read_motions(tmp_path / "run" / "motions.sqlite")][-1] == "hold"


def test_a_simulated_world_is_gone_with_its_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    code, _ = grasp_process("run", folder, "--die-in", "verify")
    assert code == -signal.SIGKILL
    sent = [m.step for m in read_motions(folder / "motions.sqlite")]
    assert main(["resume", str(folder), "--yes", "--json", "--no-report"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["failure"]["code"] == "execution.interrupted"
    assert "the simulated world is gone with its process" in result["failure"]["message"]
    assert [m.step for m in read_motions(folder / "motions.sqlite")] == sent
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    assert main(["resume", str(folder), "--yes", "--json", "--no-report"]) == 1
    assert json.loads(capsys.readouterr().out) == result, "an abandoned run stays as it is"
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(tmp_path / "nowhere")]) == 2
    assert "holds no run" in capsys.readouterr().err
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "events.jsonl").write_text('{"time": "2026-')
    assert main(["resume", str(tmp_path / "torn")]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_half_a_line_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.event("start", command="the mug")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": "2026-11-22", "event": "sta')
    RunStore(tmp_path).event("resume")
    assert [event["event"] for event in store.events()] == ["start", "resume"]


# ---- resuming on an arm that keeps its world ------------------------------------------------------------------------
def left_run(folder: Path, file: Path | None = None, **changes: object) -> LeftRun:
    """A run of a real cell whose process died after the steps in `file`."""
    store = RunStore(folder)
    settings = Settings(cell="ur5:127.0.0.1", speed=0.5).model_dump(mode="json")
    store.event("start", run=folder.name, command="the mug", settings={**settings, **changes})
    if file is not None:
        file.rename(folder / "motions.sqlite")
    return read_run(folder)


def test_resuming_takes_the_limits_of_today_and_the_lower_speed(tmp_path: Path) -> None:
    left = left_run(tmp_path / "run", seed=7, confirm=True)
    today = tmp_path / "today.toml"
    today.write_text('cell = "sim"\nspeed = 0.8\nseed = 3\n[limits]\ntcp_speed_m_s = 0.3\n')
    settings = settings_to_resume(left, today)
    assert (settings.cell, settings.seed, settings.speed, settings.confirm) == ("ur5:127.0.0.1", 7, 0.5, True)
    assert settings.limits.tcp_speed_m_s == 0.3
    today.write_text("speed = 0.1\n")
    assert settings_to_resume(left, today).speed == 0.1


def test_a_run_is_given_up_when_its_last_motion_is_long_ago(tmp_path: Path) -> None:
    with MotionJournal(tmp_path / "motions.sqlite") as journal:
        journal.begin("open", {"width_m": 0.05}, {})
        journal.end("open", {"reached": True})
    left = left_run(tmp_path / "run", tmp_path / "motions.sqlite")
    assert why_lost(left) is None
    long_ago = (datetime.now(UTC) - timedelta(minutes=11)).isoformat()
    old = dataclasses.replace(left, motions=[dataclasses.replace(left.motions[0], ended=long_ago)])
    assert why_lost(old) == "the last motion (open) was 11 minutes ago, at most 10"


def test_a_new_command_is_refused_until_a_crash_is_dealt_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    for folder in (runs / "a", elsewhere / "b"):
        with MotionJournal(tmp_path / "motions.sqlite") as journal:
            journal.begin("approach", {}, {})
        left_run(folder, tmp_path / "motions.sqlite")
    with Commander("127.0.0.1") as commander:
        with pytest.raises(StageFailure, match="runs/a was cut off .*cut off: approach.*--abandon") as caught:
            refuse_after_a_crash(commander, runs, "ur5:127.0.0.1")
        assert (caught.value.stage, caught.value.code) == ("execute", "execution.interrupted")
        refuse_after_a_crash(commander, runs, "ur5:127.0.0.2")  # another arm's
        refuse_after_a_crash(commander, tmp_path / "none", "ur5:127.0.0.1")
        commander.remember(elsewhere / "b")
    with Commander("127.0.0.1") as commander:  # the lock's file remembers the run, wherever it is
        with pytest.raises(StageFailure, match="elsewhere/b was cut off"):
            refuse_after_a_crash(commander, tmp_path / "none", "ur5:127.0.0.1")
        assert main(["resume", str(elsewhere / "b"), "--abandon", "--no-report"]) == 1
        refuse_after_a_crash(commander, tmp_path / "none", "ur5:127.0.0.1")


def test_settling(tmp_path: Path, plan: GraspPlan) -> None:
    """What an arm must look like for its run to go on."""
    with ArmWorld(tmp_path / "world.sock") as world, MotionJournal.in_memory() as journal:
        arm = WorldArm(tmp_path / "world.sock")
        assert settle(arm, journal) == "no motion had begun"
        steps = grasp_steps(plan)
        execution._carry_out(arm, journal, steps[0])
        execution._carry_out(arm, journal, steps[1])
        assert settle(arm, journal) == "to_pregrasp had ended, and the arm is where it left it"
        world.width_m += 0.01
        with pytest.raises(StageFailure, match="its fingers by 10.0 mm"):
            settle(arm, journal)
        world.width_m -= 0.01
        world.q = world.q + 0.05
        with pytest.raises(StageFailure, match="moved by 0.050 rad") as caught:
            settle(arm, journal)
        assert caught.value.code == "execution.interrupted"
        with pytest.raises(StageFailure, match="approach is not sent: since to_pregrasp the arm has been moved"):
            execution._carry_out(arm, journal, steps[2])
        assert world.told == ["open", "to_pregrasp"]
        world.q = world.q - 0.05
        journal.begin("approach", steps[2].goal, {"positions": world.q.tolist()})
        with pytest.raises(StageFailure, match="approach was cut off: it stands 0.200 rad before its goal") as caught:
            settle(arm, journal)
        assert caught.value.evidence["positions"] == world.q.tolist()
        world.q = plan.approach.positions[-1]
        assert settle(arm, journal) == "approach was cut off, and the arm rests at its goal"
        arm.close()


# ---- one commander --------------------------------------------------------------------------------------------------
def _hold_lock(state: str, ready: Any) -> None:
    os.environ["XDG_STATE_HOME"] = state
    with Commander("127.0.0.9"):
        ready.put(os.getpid())
        signal.pause()


def test_one_process_commands_an_arm_and_its_death_frees_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ready = FORK.SimpleQueue()
    holder = FORK.Process(target=_hold_lock, args=(str(tmp_path), ready))
    holder.start()
    pid = ready.get()
    with pytest.raises(AffordAgentError, match=f"already commands the arm at 127.0.0.9: process {pid}"):
        Commander("127.0.0.9").__enter__()
    with Commander("127.0.0.10"):
        pass  # another arm is free
    holder.kill()
    holder.join()
    with Commander("127.0.0.9") as commander:
        assert commander.last_run is None


# ---- the real driver and the emulated controller --------------------------------------------------------------------
def check(moments: list[Moment]) -> None:
    assert sum(len(m.killed) for m in moments) > 0
    for moment in moments:
        assert moment.repeated == 0, moment
        assert moment.unreadable == [], moment
        assert len(set(moment.journal)) == len(moment.journal), moment
        assert moment.outcome == "success" or (moment.code or "").startswith("execution."), moment


def test_kill_9_at_random_moments(tmp_path: Path, loopback: str) -> None:
    check(kill_moments(2, EARLY_KILLS, loopback, tmp_path))


@pytest.mark.slow
def test_kill_9_at_thirty_random_moments(tmp_path: Path, loopback: str) -> None:
    check(kill_moments(30, 100, loopback, tmp_path))
