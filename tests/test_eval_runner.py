"""Trials of evaluations in the simulated cell: what decides them, what is kept of them, and going on after a stop."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from affordagent.agent.cli import main
from affordagent.agent.cli_eval_suites import read_setting
from affordagent.agent.results import RunResult
from affordagent.agent.session import Tools
from affordagent.core.errors import AffordAgentError
from affordagent.evaluations.commands.command import Command, CommandGold, write_commands
from affordagent.evaluations.runner import run as running
from affordagent.evaluations.runner.records import EVALUATION, TABLE, TRIALS
from affordagent.evaluations.runner.run import Evaluation, alone_in, claim, to_attribute
from affordagent.evaluations.runner.suites import SUITES, THIN_M, Asked, commands, suiting_scenes
from affordagent.evaluations.runner.summary import summarise
from affordagent.evaluations.runner.table import read_rows
from affordagent.evaluations.runner.trial import Trial, judged, read_trial, run_trial, stage
from affordagent.finetune.phrases import phrases
from affordagent.robot.sim.objects import library
from affordagent.robot.sim.scene import sample_scene, scene_categories

TIMES = ("cpu_s", "wall_s")


def a_trial(**changes: Any) -> Trial:
    return Trial(
        **{"suite": "styles", "scene": "mixed", "seed": 3, "target": 3, "command_id": "c", "group": "g"} | changes
    )


words = st.text(max_size=40)


@given(one=words, two=words, setting=words, seed=st.integers(0, 3))
@example(one=".", two="", setting="", seed=0)
@example(one="", two="-", setting=".", seed=0)
@settings(max_examples=80, deadline=None)
def test_keys_are_names_of_files_and_each_trial_has_its_own(one: str, two: str, setting: str, seed: int) -> None:
    first, second = a_trial(command_id=one, setting=setting), a_trial(command_id=two, setting=setting, seed=seed)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,120}", first.key)
    assert first.key[0] not in ".-"
    assert (first.key == second.key) == (first == second)
    assert Trial.model_validate_json(first.model_dump_json()).key == first.key


def test_both_styles_mean_the_same_thing_and_hard_words_do_not_name_it() -> None:
    trials = list(SUITES["styles"](Asked(rounds=4, first_seed=10)))
    staged = [stage(trial) for trial in trials]
    assert [t.style for t in trials] == ["template", "hard"] * 4
    for template, hard in zip(staged[::2], staged[1::2], strict=True):
        assert hard.target is not None
        assert template.gold == hard.gold
        assert hard.target.category not in hard.text.lower()
        dev = phrases()["dev"]  # scenes below 1000 never show the phrases kept for reports
        assert any(hard.text.startswith(text[:20]) or text in hard.text for text in dev[hard.target.category])
        others = {o.category for o in hard.scene.objects} - {hard.target.category}
        assert not any(hard.text in dev.get(category, []) for category in others)
    assert stage(trials[0]).text == staged[0].text


def test_the_suites_ask_every_condition_in_every_round() -> None:
    objects = list(SUITES["objects"](Asked(rounds=3, things=20, first_seed=40)))
    assert len(objects) == 60
    first = [trial.scene.split(":")[1] for trial in objects[:20]]
    assert sum(category in library.HELD_OUT for category in first) == 10
    target = stage(objects[1]).target
    assert target is not None
    assert target.category == first[1]
    depth = list(SUITES["depth"](Asked(rounds=6, changes={"default": {}, "alone": {"fallback": "none"}})))
    assert [t.setting for t in depth[:3]] == ["sigma 0 mm", "sigma 0 mm, alone", "sigma 2.5 mm"]
    assert len(depth) == 6 * 5 * 2
    thin = stage(depth[0]).target
    assert thin is not None
    parts = [v.mesh.bounding_box_oriented.primitive.extents.min() for v in thin.obj.visuals if v.part == "handle"]
    assert min(parts) <= THIN_M[1]


def test_commands_go_to_scenes_that_hold_what_they_mean(tmp_path: Path) -> None:
    def command(name: str, gold: Any, **more: Any) -> Command:
        return Command(id=name, text=f"say {name}", gold=gold, group="g", **more)

    mug = command("mug", CommandGold(categories=("mug",), part="handle"), absent=("bottle",))
    red = command("red", CommandGold(categories=("mug",), colour="red"))
    kettle, unclear = command("kettle", None, absent=("kettle",)), command("unclear", "ambiguous", style="hard")
    asked = Asked(rounds=2, scenes=("mixed", "novel"), commands=tmp_path / "c.jsonl")
    for name, seed in suiting_scenes(mug, asked):
        categories = scene_categories(name, seed)
        assert "mug" in categories
        assert "bottle" not in categories
    assert all(red.suits(sample_scene(*found)) for found in suiting_scenes(red, asked))
    write_commands(asked.commands or tmp_path, [mug, red, kettle, unclear])
    trials = list(commands(asked))
    assert [t.command_id for t in trials] == ["mug", "unclear", "red", "kettle"] * 2
    assert {t.command_id: (t.expected, t.absent_is_right) for t in trials} == {
        "mug": ("grasp", False), "red": ("grasp", False), "kettle": ("refuse", True), "unclear": ("ask", False)
    }  # fmt: skip
    assert len({t.key for t in trials}) == 8
    digest = asked.as_json()["commands"]
    write_commands(asked.commands or tmp_path, [mug])
    assert asked.as_json()["commands"] != digest
    assert replace(asked, commands=Path("dev")).as_json()["commands"].startswith("dev sha256:")
    with pytest.raises(AffordAgentError, match="not simulated"):
        suiting_scenes(command("framed", None, scene="frame:x"), asked)


@pytest.mark.parametrize(
    ("expected", "outcome", "code", "right", "said"),
    [
        ("grasp", "success", None, True, None),
        ("grasp", "needs_clarification", "language.ambiguous", False, "language.ambiguous"),
        ("ask", "needs_clarification", "language.ambiguous", True, None),
        ("ask", "success", None, False, "language.ambiguous_unasked"),
        ("ask", "refused", "language.no_motion_wanted", False, "language.no_motion_wanted"),
        ("refuse", "refused", "language.no_motion_wanted", True, None),
        ("refuse", "failure", "grounding.not_found", True, None),
        ("refuse", "failure", "execution.slip", False, "execution.slip"),
        ("refuse", "success", None, False, "language.not_refused"),
    ],
)
def test_what_counts_as_right(expected: Any, outcome: Any, code: str | None, right: bool, said: str | None) -> None:
    failure = None if code is None else {"stage": "s", "code": code, "message": ""}
    result = RunResult(outcome, None, [], failure, Path())
    found, why = judged(a_trial(expected=expected, absent_is_right=True), result)
    assert found is right
    assert (None if why is None else why["code"]) == said
    if code == "grounding.not_found":  # right only where the thing is asked for and not there
        assert not judged(a_trial(expected="refuse"), result)[0]


def test_a_trial_leaves_a_run_folder_and_a_row_and_can_be_run_again(tmp_path: Path) -> None:
    trial = a_trial(masks="truth", depth_sigma_m=0.0005)
    left_by_a_kill = tmp_path / "runs" / trial.key / "motions.sqlite"
    left_by_a_kill.parent.mkdir(parents=True)
    left_by_a_kill.write_bytes(b"half")
    row = run_trial(trial, tmp_path, Tools())
    folder = tmp_path / row["run"]
    assert row["success"], row["failure_message"]
    assert (folder / "run.json").is_file()
    assert (folder / "frame_color.png").is_file()
    assert read_trial(folder) == trial
    assert row["target"] == stage(trial).target.name  # type: ignore[union-attr]
    assert all(row["checks"].values())
    assert {"open", "look", "execute"} <= row["cpu_s"].keys()
    assert row["sensed_success"] is not None
    assert row["distance"] is not None
    assert row["distance"] < 0.6  # a template lies within the training style, or at its edge
    again = run_trial(read_trial(folder), tmp_path / "again", Tools())
    assert {k: v for k, v in again.items() if k not in TIMES} == {k: v for k, v in row.items() if k not in TIMES}
    other = stage(trial.model_copy(update={"repeat": 1}))
    assert other.text == stage(trial).text


def an_evaluation(**changes: Any) -> Evaluation:
    asked = Asked(rounds=3, masks="truth")
    return replace(Evaluation("styles", asked.as_json(), asked.changes, list(SUITES["styles"](asked))), **changes)


def test_another_evaluation_is_not_mixed_in(tmp_path: Path) -> None:
    claim(an_evaluation(), tmp_path, anew=False)
    (tmp_path / TRIALS).write_text("")
    claim(an_evaluation(trials=[], asked=an_evaluation().asked | {"rounds": 9}), tmp_path, anew=False)  # it may grow
    assert json.loads((tmp_path / EVALUATION).read_text())["trials"] == 6
    other = an_evaluation(settings={"default": {}, "alone": {"fallback": "none"}})
    with pytest.raises(AffordAgentError, match=r"settings\.alone was null, now \{\"fallback\": \"none\"\}"):
        claim(other, tmp_path, anew=False)
    file = tmp_path / EVALUATION
    file.write_text(file.read_text().replace('"mujoco": "', '"mujoco": "old'))
    with pytest.raises(AffordAgentError, match=r"versions\.mujoco was"):
        claim(an_evaluation(), tmp_path, anew=False)
    claim(other, tmp_path, anew=True)
    assert (tmp_path / "before-1" / TRIALS).is_file()
    assert not (tmp_path / TRIALS).exists()
    with alone_in(tmp_path), pytest.raises(AffordAgentError, match="is running in"):
        with alone_in(tmp_path):
            pass


def test_settings_are_read_and_checked() -> None:
    name, changes = read_setting("slow:fallback=pointing:http://x/v1,seer,speed=0.5,limits.approach_speed_m_s=0.1")
    assert name == "slow"
    assert changes == {"fallback": "pointing:http://x/v1,seer", "speed": 0.5, "limits": {"approach_speed_m_s": 0.1}}
    with pytest.raises(AffordAgentError, match="NAME:KEY=VALUE"):
        read_setting("fallback=none")
    with pytest.raises(AffordAgentError, match="spead"):
        read_setting("slow:spead=0.5")


def test_the_summary_pairs_settings_and_styles(tmp_path: Path) -> None:
    rows: list[Any] = [
        {
            "key": f"{n}-{style}-{setting}", "setting": setting, "style": style, "seen": True, "category": "mug",
            "expected": "grasp", "scene": "mixed", "seed": n, "repeat": 0, "group": f"g{n}", "command_id": style,
            "success": style == "template" or n > 1, "failure_stage": "ground", "failure_code": "grounding.not_found",
            "outcome": "failure", "checks": {"slip": n > 1}, "sensed_success": True, "cpu_s": {"look": 1.0},
        }
        for n in range(4) for style in ("template", "hard") for setting in ("default", "alone")
    ]  # fmt: skip
    found = summarise(rows)
    assert found["success"]["k"] == 12
    assert {(p["second"], p["pairs"], p["only_first"], p["only_second"]) for p in found["pairs"]} == {
        ("alone", 8, 0, 0), ("hard", 8, 4, 0)
    }  # fmt: skip
    assert found["failures"] == {"ground grounding.not_found": 4}
    assert [e.key for e in to_attribute(rows, 0.0)] == [row["key"] for row in rows if not row["success"]]
    assert len(to_attribute(rows, 1.0)) == 16


@pytest.mark.slow
def test_the_command_line_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "styles", "--masks", "truth", "--rounds", "2", "--out", str(tmp_path / "e"), "--json"]
    assert main([*command, "--limit", "1"]) == 0
    first = (tmp_path / "e" / TRIALS).read_text()
    capsys.readouterr()
    assert main([*command, "--workers", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["success"]["n"] == 4
    assert (tmp_path / "e" / TRIALS).read_text().startswith(first)
    table = pq.read_table(tmp_path / "e" / TABLE)
    assert sorted(table["key"].to_pylist()) == sorted(row["key"] for row in read_rows(tmp_path / "e"))
    assert main([*command, "--noise"]) == 2
    assert "asked.noise was false, now true" in capsys.readouterr().err
    assert not running._loaded  # the models are the workers'


@pytest.mark.slow
def test_killed_five_times_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    def command(out: str) -> list[str]:
        asked = ["--masks", "truth", "--rounds", "5", "--workers", "2", "--out", str(tmp_path / out)]
        return [sys.executable, "-m", "affordagent.agent.cli", "eval", "styles", *asked]

    killed, rng = tmp_path / "killed", random.Random(5)
    for there in range(5):
        process = subprocess.Popen(command("killed"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < end:
            runs = list((killed / "runs").glob("*/events.jsonl"))
            if len(runs) > there:
                break
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 3))
        process.kill()
        process.wait(timeout=30)
        ended = [row["key"] for row in read_rows(killed)] if (killed / TRIALS).exists() else []
        assert len(ended) == len(set(ended))
        assert all((killed / "runs" / key / "run.json").is_file() for key in ended)
    for out in ("killed", "unkilled"):
        subprocess.run(command(out), check=True, timeout=900, capture_output=True)
    rows, unkilled = (sorted(read_rows(tmp_path / out), key=lambda row: row["key"]) for out in ("killed", "unkilled"))
    assert len(rows) == 10
    assert [{k: v for k, v in row.items() if k not in TIMES} for row in rows] == [
        {k: v for k, v in row.items() if k not in TIMES} for row in unkilled
    ]
