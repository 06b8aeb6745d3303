"""The study of blame: what is injected where, and what is counted as right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from affordagent.core.causes import CAUSES
from affordagent.evaluations.causes.confusion import NOBODY, SEVERAL, Group, summarise, write_report
from affordagent.evaluations.causes.confusion_figure import RIGHT
from affordagent.evaluations.causes.faults import FAULTS, Fault


def row(injected: list[str], causal: list[str], failure: str | None = "execution.drop", **more: Any) -> dict[str, Any]:
    faults = [{"cause": cause, "name": "a fault", "size": 0.01} for cause in injected]
    usual = {"noise": False, "harmless": False, "first_failing": causal[0] if causal else None, "cpu_s": 2.0}
    shares = {cause: 1 / len(causal) for cause in causal}
    return {"faults": faults, "causal": causal, "shares": shares, "failure": failure, **usual, **more}


def group(*rows: dict[str, Any], succeeds: bool = True) -> dict[str, Any]:
    return {"succeeds": succeeds, "trials": list(rows), "cpu_s": 10.0}


GROUPS = [
    group(
        row(["depth"], ["depth"]),
        row(["depth"], ["grasp"]),
        row(["grounding"], ["grounding"], "grounding.wrong_object"),
        row(["grounding"], ["language"], "grounding.wrong_object"),
        row(["grasp"], ["grasp", "planning"]),
        row(["planning"], [], first_failing="planning"),
        row(["execution"], [], None, harmless=True),
        row(["depth", "grasp"], ["depth", "grasp"]),
        row(["language", "grasp"], ["language"]),
    ),
    group(succeeds=False),
]


def test_what_is_right() -> None:
    found = summarise(GROUPS)
    assert (found["scenes"], found["scenes_that_succeed"], found["trials"], found["single"]) == (2, 1, 9, 7)
    assert (found["harmless"]["k"], found["harmless"]["n"]) == (1, 7)
    assert (found["causal"]["k"], found["causal"]["n"]) == (2, 6)  # a harmless fault is nobody's
    assert found["causal_among_several"]["k"] == 3
    assert found["kind"]["k"] == 4  # language for grounding, planning for grasp: of one kind
    assert (found["visual_or_pose"]["k"], found["visual_or_pose"]["n"]) == (3, 4)
    assert (found["code_of_the_run"]["k"], found["where_the_code_misleads"]["k"]) == (2, 1)
    assert found["confusion"]["grasp"] == dict.fromkeys([*CAUSES, NOBODY], 0) | {SEVERAL: 1}
    assert found["confusion"]["planning"][NOBODY] == 1
    assert list(found["confusion"]) == ["depth", "grounding", "grasp", "planning"]
    assert [found["double"][name]["k"] for name in ("both", "one_of_them", "nobody_else")] == [1, 2, 2]
    assert found["harmless_by_fault"]["execution: a fault 0.01"]["k"] == 1


def test_one_fault_of_each_cause_and_in_time_all() -> None:
    def fits(fault: Fault) -> bool:
        return fault.name not in ("wrong instance", "misread colour")

    chosen = [Group(seed, seed).faults(fits) for seed in range(50)]
    assert all([fault.cause for fault in faults] == list(CAUSES) for faults in chosen)
    assert {fault for faults in chosen for fault in faults} == set(filter(fits, FAULTS))


def test_a_group_is_a_plain_wish_for_a_thing_of_its_scene() -> None:
    trial = Group(12, 3).trial
    assert (trial.scene, trial.seed, trial.noise, trial.fault) == ("twins", 12, True, None)
    assert trial.text is not None
    assert trial.text.startswith("pick up the ")
    assert trial == Group(12, 3).trial


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(GROUPS, tmp_path, {"asked": 1})
    assert json.loads(capsys.readouterr().out)["causal"]["k"] == 2
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 9
    assert json.loads((tmp_path / "summary.json").read_text())["asked"] == 1
    picture = Image.open(tmp_path / "confusion.png")
    assert RIGHT not in [colour for _, colour in picture.getcolors(100_000)]  # no row of it is all right
    everything = [group(*(row([cause], [cause]) for cause in CAUSES))]
    write_report(everything, tmp_path, {})
    whole = Image.open(tmp_path / "confusion.png")
    assert RIGHT in [colour for _, colour in whole.getcolors(100_000)]
    assert whole.width == picture.width
    assert whole.height > picture.height
