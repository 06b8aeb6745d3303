"""The journal of motions: what has begun is never begun again, whatever dies in between."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.journal import MotionJournal, read_motions

FORK = multiprocessing.get_context("fork")


def test_a_motion_from_its_begin_to_its_end(tmp_path: Path) -> None:
    with MotionJournal(tmp_path / "motions.sqlite") as journal:
        journal.begin("open", {"width_m": 0.05}, {"positions": [0.0] * 6})
        (open_one,) = journal.motions()
        assert (open_one.step, open_one.goal, open_one.start) == ("open", {"width_m": 0.05}, {"positions": [0.0] * 6})
        assert open_one.ended is None
        assert open_one.result is None
        journal.end("open", {"reached": True})
        done = journal.find("open")
        assert done is not None
        assert done.result == {"reached": True}
        assert done.begun <= (done.ended or "")
    assert [m.sequence for m in read_motions(tmp_path / "motions.sqlite")] == [1]


def test_nothing_is_begun_twice_and_nothing_after_a_motion_that_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "motions.sqlite"
    with MotionJournal(file) as journal:
        journal.begin("open", {}, {})
        journal.end("open", {"reached": True})
        with pytest.raises(StageFailure, match="open was begun at .* and ended") as caught:
            journal.begin("open", {}, {})
        assert (caught.value.stage, caught.value.code) == ("execute", "execution.interrupted")
        journal.begin("approach", {}, {})
    with MotionJournal(file) as journal:  # as a new process would
        for step in ("approach", "close"):
            with pytest.raises(StageFailure, match="approach was begun at .* was cut off") as caught:
                journal.begin(step, {}, {})
            assert caught.value.evidence["step"] == "approach"
        assert [m.step for m in journal.motions()] == ["open", "approach"]


def test_only_what_is_under_way_can_end(tmp_path: Path) -> None:
    with MotionJournal(tmp_path / "motions.sqlite") as journal:
        with pytest.raises(ValueError, match="open is not under way"):
            journal.end("open", {})
        journal.begin("open", {}, {})
        journal.end("open", {"reached": False})
        with pytest.raises(ValueError, match="open is not under way"):
            journal.end("open", {"reached": True})
        assert journal.motions()[0].result == {"reached": False}


def test_no_file_has_no_motions_and_another_file_is_no_journal(tmp_path: Path) -> None:
    assert read_motions(tmp_path / "none.sqlite") == []
    (tmp_path / "text.sqlite").write_text("no database at all, but long enough to be looked at as one\n" * 20)
    with pytest.raises(AffordAgentError, match=r"text\.sqlite"):
        read_motions(tmp_path / "text.sqlite")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.tuples(st.sampled_from(["begin", "end"]), st.sampled_from("abc")), max_size=12))
def test_any_order_of_calls_keeps_the_rule(calls: list[tuple[str, str]]) -> None:
    begun: list[str] = []
    under_way: str | None = None
    with MotionJournal.in_memory() as journal:
        for call, step in calls:
            try:
                if call == "begin":
                    journal.begin(step, {}, {})
                    assert under_way is None
                    assert step not in begun
                    begun.append(step)
                    under_way = step
                else:
                    journal.end(step, {})
                    assert step == under_way
                    under_way = None
            except StageFailure:
                assert call == "begin"
                assert step in begun or under_way is not None
            except ValueError:
                assert call == "end"
                assert step != under_way
        assert [m.step for m in journal.motions()] == begun


def _write_for_ever(file: Path) -> None:
    """Motions m0, m1, ... after those that are there; a line in `told` stands for the motion itself."""
    with MotionJournal(file) as journal, (file.parent / "told").open("a") as told:
        motions = journal.motions()
        if motions and motions[-1].ended is None:
            journal.end(motions[-1].step, {"found": True})
        number = len(motions)
        while True:
            journal.begin(f"m{number}", {"positions": [0.1] * 6}, {"positions": [0.0] * 6})
            told.write(f"m{number}\n")
            told.flush()
            journal.end(f"m{number}", {"reached": True})
            number += 1


def test_a_writer_killed_at_any_moment_leaves_it_readable_and_repeats_nothing(tmp_path: Path) -> None:
    file, rng = tmp_path / "motions.sqlite", np.random.default_rng(0)
    for _ in range(40):
        writer = FORK.Process(target=_write_for_ever, args=(file,))
        writer.start()
        time.sleep(rng.uniform(0, 0.06))
        read_motions(file)  # while it writes
        writer.kill()
        writer.join()
        motions = read_motions(file)
        assert [m.step for m in motions] == [f"m{i}" for i in range(len(motions))]
        assert all(m.ended for m in motions[:-1])
        if file.exists():
            with sqlite3.connect(file) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    told = (tmp_path / "told").read_text().split()
    assert len(told) == len(set(told)) > 40
    assert set(told) <= {m.step for m in read_motions(file)}, "nothing is sent before it is in the journal"


def _begin_all(file: Path, won: multiprocessing.SimpleQueue) -> None:
    with MotionJournal(file) as journal:
        for number in range(50):
            try:
                journal.begin(f"m{number}", {}, {})
            except StageFailure:
                continue
            won.put(number)
            journal.end(f"m{number}", {})


def test_of_several_processes_one_begins(tmp_path: Path) -> None:
    won = FORK.SimpleQueue()
    racers = [FORK.Process(target=_begin_all, args=(tmp_path / "motions.sqlite", won)) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(20)
        assert racer.exitcode == 0
    begun = []
    while not won.empty():
        begun.append(won.get())
    assert len(begun) == len(set(begun)) == len(read_motions(tmp_path / "motions.sqlite")) > 0
