"""The instance suite: which things, where they stand, what an episode says, and that a stopped run goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from affordagent.agent.cli import main
from affordagent.evaluations.instances import (
    OTHERS,
    REPORT_SEED,
    Instance,
    Trial,
    instances,
    run_trial,
    summarise,
    trials,
)
from affordagent.evaluations.trials import Row, run_trials
from affordagent.robot.sim.objects import library
from affordagent.robot.sim.scene import TEST_SEEDS, TRAINING_SEEDS


def test_twenty_known_and_twenty_unseen_things() -> None:
    things = instances()
    known = [t for t in things if t.group == "known"]
    unseen = [t for t in things if t.group != "known"]
    assert len(known) == len({t.category for t in known}) == 20
    assert len(unseen) == len({(t.category, t.seed) for t in unseen}) == 20
    assert all(t.seed in TRAINING_SEEDS and t.category in library.CATEGORIES for t in known)
    assert all(t.seed in TEST_SEEDS for t in unseen)
    assert {t.category for t in unseen if t.group == "unseen category"} == set(library.HELD_OUT)
    assert len(trials()) == 400
    assert len({t.key for t in trials(noise=(False, True))}) == 800


def test_known_shapes_stay_and_unseen_ones_change_with_the_seed() -> None:
    development, report = instances(0), instances(REPORT_SEED)
    for one, other in zip(development, report, strict=True):
        assert (one == other) is (one.group == "known")


def test_the_target_stands_among_five_other_kinds() -> None:
    trial = Trial(Instance("known", "mug", 0), 3, noise=False)
    scene = trial.scene
    assert len(scene.objects) == 1 + OTHERS
    assert scene.objects[0].category == "mug"
    assert "mug" not in {o.category for o in scene.objects[1:]}
    again = Trial(Instance("known", "mug", 0), 3, noise=True).scene
    for one, other in zip(scene.objects, again.objects, strict=True):
        assert one.category == other.category
        assert np.array_equal(one.T_base_object, other.T_base_object)
    moved = Trial(Instance("known", "mug", 0), 4, noise=False).scene
    assert not np.array_equal(scene.objects[0].T_base_object, moved.objects[0].T_base_object)


def test_an_episode_ends_with_a_verdict() -> None:
    row = run_trial(Trial(Instance("known", "hammer", 0), 0, noise=True))
    assert row["success"], row
    assert row["measured"]["lift_m"] > 0.15
    assert {"look", "lift", "propose", "plan", "execute", "judge"} <= set(row["cpu_s"])


def _row(trial: Trial) -> Row:
    return {"key": trial.key, "group": trial.instance.group, "category": trial.instance.category, "noise": trial.noise}


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    chosen = trials(0, 1, groups=("known",))[:3]
    log = tmp_path / "trials.jsonl"
    new: list[Row] = []
    first = run_trials(chosen[:2], log, _row, on_row=new.append)
    every = run_trials(chosen, log, _row, on_row=new.append)
    assert [row["key"] for row in every] == [trial.key for trial in chosen]
    assert every[:2] == first
    assert len(new) == len(log.read_text().splitlines()) == 3


def test_rates_by_group_and_depth() -> None:
    rows = [
        _row(t) | {"success": k % 4 > 0, "stage": "plan", "code": "planning.no_path", "cpu_s": {"plan": 2.0}}
        for k, t in enumerate(trials(0, 1, (False, True)))
    ]
    found = summarise(rows)
    assert found["clean"]["known"]["n"] == found["noisy"]["unseen"]["n"] == 20
    assert found["clean"]["known"]["rate"] == 0.75
    assert found["clean"]["known"]["goal"] > found["clean"]["unseen"]["goal"]
    assert found["failures"] == {"plan planning.no_path": 20}
    assert found["cpu_s_an_episode"]["median"] == 2


@pytest.mark.parametrize("wrong", [["--groups", "all"], ["--poses", "0"], ["--first-seed", "-1"]])
def test_wrong_arguments_are_named(wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "instances", "--out", str(tmp_path), *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err
