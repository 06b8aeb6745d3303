"""Work in many processes: what a kill, Ctrl-C, an error or a dead worker leaves behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from counting_process import Count, work, work_or_raise

from affordagent.core.errors import AffordAgentError
from affordagent.core.jsonl import read_lines
from affordagent.evaluations.trials import run_trials

PROCESS = Path(__file__).with_name("counting_process.py")
COUNT = 40


def start(log: Path, workers: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROCESS), str(log), str(COUNT), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for_lines(log: Path, more_than: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if log.is_file() and log.read_bytes().count(b"\n") > more_than:
            return
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def without_pid(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "pid"} for row in rows]


def test_killed_five_times_no_row_is_doubled_lost_or_torn(tmp_path: Path) -> None:
    log, rng = tmp_path / "trials.jsonl", random.Random(3)
    for _ in range(5):
        there = log.read_bytes().count(b"\n") if log.is_file() else 0
        process = start(log)
        wait_for_lines(log, there + rng.randrange(6), process)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        workers = {int(line) for line in process.communicate(timeout=60)[0].split()}
        end = time.monotonic() + 10
        while not all(map(is_gone, workers)):
            assert time.monotonic() < end, "a worker outlived its parent"
            time.sleep(0.02)
        assert len(read_lines(log)) >= there  # what had ended is there
    if log.is_file():  # and the worst moment: in the middle of a line
        log.write_bytes(log.read_bytes() + json.dumps({"key": "n39", "square": 0}).encode()[:20])
    rows = run_trials([Count(n) for n in range(COUNT)], log, work, 2)
    lines = read_lines(log)
    assert [row["key"] for row in rows] == [f"n{n}" for n in range(COUNT)]
    assert sorted(row["key"] for row in lines) == sorted(row["key"] for row in rows)
    unkilled = run_trials([Count(n) for n in range(COUNT)], tmp_path / "unkilled.jsonl", work, 2)
    assert without_pid(rows) == without_pid(unkilled)


def test_ctrl_c_finishes_what_is_in_flight(tmp_path: Path) -> None:
    log = tmp_path / "trials.jsonl"
    process = start(log)
    wait_for_lines(log, 3, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping: finishing" in said
    rows = read_lines(log)
    assert 4 <= len(rows) < COUNT
    assert all(is_gone(row["pid"]) for row in rows)


def test_one_that_raises_does_not_keep_the_others_from_their_turn(tmp_path: Path) -> None:
    trials, log = [Count(n) for n in range(4)], tmp_path / "trials.jsonl"
    with pytest.raises(AffordAgentError, match=r"1 raised \(n1: ValueError: no square of one\)"):
        run_trials(trials, log, work_or_raise)
    assert [row["key"] for row in read_lines(log)] == ["n0", "n2", "n3"]
    assert [row["square"] for row in run_trials(trials, log, work)] == [0, 1, 4, 9]  # once it is mended


def test_a_worker_that_dies_is_said_with_what_it_was_doing(tmp_path: Path) -> None:
    with pytest.raises(AffordAgentError, match=r"a worker process died .* in flight: n13\."):
        run_trials([Count(2), Count(13)], tmp_path / "trials.jsonl", work_or_raise)
    assert [row["key"] for row in read_lines(tmp_path / "trials.jsonl")] == ["n2"]


@pytest.mark.slow
def test_the_same_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(PROCESS.parent))  # where Ray's workers find the work
    trials = [Count(n) for n in range(6)]
    rows = run_trials(trials, tmp_path / "ray.jsonl", work, 2, ray="local")
    assert without_pid(rows) == without_pid(run_trials(trials, tmp_path / "here.jsonl", work))
    assert os.getpid() not in {row["pid"] for row in rows}
    with pytest.raises(AffordAgentError, match="ValueError: no square of one"):
        run_trials(trials, tmp_path / "raised.jsonl", work_or_raise, 2, ray="local")
    assert len(read_lines(tmp_path / "raised.jsonl")) == 5
