"""Figures of an evaluation against what a hand computes, and the page that shows them."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_rows import attribution, many_rows, row
from PIL import Image

from affordagent.agent.cli import build_parser, main
from affordagent.agent.cli_eval_suites import _asked
from affordagent.core.camera import CameraIntrinsics
from affordagent.core.causes import CAUSES
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore, as_plain, write_json
from affordagent.core.types import PartMask, RgbdFrame
from affordagent.evaluations.causes.annotation import Annotation, write_annotation
from affordagent.evaluations.reporting.blame import first_against_causal, flow, kinds, ladder, luck, shapley
from affordagent.evaluations.reporting.checks import confusion, times, verified
from affordagent.evaluations.reporting.figures import OK_ROBOT, figures
from affordagent.evaluations.reporting.page import FIGURES, PAGE, write_evaluation_report
from affordagent.evaluations.reporting.pairs import paired
from affordagent.evaluations.reporting.repeat import command_of
from affordagent.evaluations.reporting.sankey import sankey
from affordagent.evaluations.reporting.sources import open_sources
from affordagent.evaluations.reporting.success import success
from affordagent.evaluations.reporting.wording import wording
from affordagent.evaluations.reporting.worst import worst_cases
from affordagent.evaluations.runner.records import Row
from affordagent.evaluations.runner.table import write_table
from affordagent.evaluations.statistics import bootstrap_sums, holm, wilson


def save(folder: Path, rows: list[Row], planned: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {"trials": [], "attributions": []}
    for each in rows:
        found = each["attribution"]
        lines["trials"].append(json.dumps({k: v for k, v in each.items() if k != "attribution"}))
        if found is not None:
            lines["attributions"].append(json.dumps({"key": each["key"], **found}))
    for name, content in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in content))
    write_json(folder / "evaluation.json", {"suite": "commands", "trials": planned or len(rows)})
    return folder


def test_rates_by_what_trials_have_in_common() -> None:
    rows = [
        row("a", style="easy", distance=0.2),
        row("b", style="easy", distance=0.9, seed=2),
        row("c", False, style="hard", distance=0.9, seed=2, seen=False, category="pan"),
        row("d", style="hard", distance=None, setting="other", noise=True),
    ]
    found = success(rows, planned=6)
    assert (found["overall"]["k"], found["overall"]["n"], found["overall"]["rate"]) == (3, 4, 0.75)
    assert found["overall"]["wilson95"] == pytest.approx(wilson(3, 4), abs=1e-4)
    assert found["if_missing"] == [0.5, pytest.approx(5 / 6, abs=1e-4)]
    assert found["by_scene"]["scenes"] == 2
    by = found["by"]
    assert {level: (r["all"]["k"], r["all"]["n"]) for level, r in by["style"].items()} == {
        "easy": (2, 2),
        "hard": (1, 2),
    }
    assert by["distance"]["outside the training style"]["all"]["n"] == 2  # one has no distance
    assert by["style"]["hard"]["settings"]["other"]["k"] == 1
    assert by["seen"]["unseen"]["all"]["rate"] == 0.0
    assert list(by["category"]) == ["mug", "pan"]  # most trials first


def test_settings_are_paired_on_everything_else() -> None:
    rows = []
    for i in range(10):  # 6 only by the first, 1 only by the second, 3 by both
        rows.append(row(f"a{i}", i != 6, setting="a", seed=i))
        rows.append(row(f"b{i}", i >= 6, setting="b", seed=i))
    rows.append(row("a-alone", setting="a", seed=50))
    (test,) = paired(rows, "setting")
    assert (test["pairs"], test["unpaired"], test["only_first"], test["only_second"]) == (10, 1, 6, 1)
    assert test["mcnemar_p"] == pytest.approx(2 * (1 + 7) / 2**7)
    assert [d["first"] for d in test["discordant"]["only_first"]] == [f"a{i}" for i in range(6)]
    assert test["discordant"]["only_second"] == [
        {"first": "a6", "second": "b6", "text": "hand me the mug", "code": "execution.slip"}
    ]
    assert test["p_holm"] == test["mcnemar_p"]


def test_a_trial_that_came_twice_is_no_pair() -> None:
    rows = [row("a", setting="a"), row("a2", setting="a"), row("b", False, setting="b")]
    (test,) = paired(rows, "setting")
    assert (test["pairs"], test["unpaired"], test["mcnemar_p"]) == (0, 3, 1.0)


def test_styles_are_paired_on_what_is_meant() -> None:
    rows = [
        row("a", style="template", command_id="c1"),
        row("b", False, style="hard", command_id="c2"),
        row("c", style="hard", command_id="c3", group="other"),
    ]
    (test,) = paired(rows, "style")
    assert (test["first"], test["second"], test["pairs"], test["only_first"]) == ("template", "hard", 1, 1)
    assert paired([rows[0], rows[2]], "style") == []  # they mean different things


def test_holm() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert len(holm([])) == 0


def test_the_flow_holds_every_trial() -> None:
    rows = [
        row("a"),
        row("b", False, attribution=attribution("grounding", "grasp")),
        row("c", False),
        row(
            "d", False, attribution=attribution(), failure_stage=None, outcome="needs_clarification", failure_code=None
        ),
    ]
    paths = {(p["ended"], p["cause"], p["code"]): p["n"] for p in flow(rows)}
    assert paths == {
        ("success", None, None): 1,
        ("execute", "grounding + grasp", "grounding.wrong_object"): 1,
        ("execute", "not attributed", "execution.slip"): 1,
        ("needs clarification", "no repair helps", "no code"): 1,
    }
    diagram = sankey(flow(rows))
    assert sum(bar.n for bar in diagram.bars if bar.x == 0) == 4
    by_column = {x: sum(b.height for b in diagram.bars if b.x == x) for x in {b.x for b in diagram.bars}}
    assert sorted(by_column.values())[:2] == pytest.approx([0.75 * max(by_column.values())] * 2)  # failures alone
    boxes = sorted((b.x, b.y, b.height) for b in diagram.bars)
    assert all(x0 < x1 or y0 + h <= y1 + 1e-9 for (x0, y0, h), (x1, y1, _) in zip(boxes, boxes[1:], strict=False))


def test_shares_of_kinds_and_causes() -> None:
    rows = [row("won")] + [
        row(str(i), False, attribution=found)
        for i, found in enumerate(
            [
                attribution("language"),
                attribution("grounding"),
                attribution("grounding", "grasp"),  # visual first; half of it is pose
                attribution("execution"),
                attribution(),
                None,
            ]
        )
    ]
    found = kinds(rows)
    counts = [found[name] for name in ("failed", "attributed", "blamed", "without_a_cause", "several_kinds")]
    assert counts == [6, 5, 4, {"no repair helps": 1}, 1]
    assert {kind: (e["k"], e["n"]) for kind, e in found["first"].items()} == {
        "visual": (3, 4),
        "pose": (0, 4),
        "hardware": (1, 4),
    }
    assert found["first"]["visual"]["bootstrap95"] == [0.25, 1.0]
    assert [found["shapley"][kind]["value"] for kind in ("visual", "pose", "hardware")] == [0.625, 0.125, 0.25]

    mean = shapley(rows)
    assert mean["n"] == 5
    assert mean["causes"]["grounding"]["value"] == pytest.approx(1.5 / 5)
    assert mean["gain"]["value"] == pytest.approx(4 / 5)


def test_first_failing_is_not_always_causal() -> None:
    rows = [
        row("a", False, attribution=attribution("grasp", first="grounding")),
        row("b", False, attribution=attribution("grasp")),
        row("c", False, attribution=attribution(evidence={"success": True})),  # nothing wrong, nothing to blame
        row("d", False, attribution=attribution(first="depth")),
        row("e"),
    ]
    found = first_against_causal(rows)
    assert found["table"] == {
        "depth": {"no repair helps": 1},
        "grounding": {"grasp": 1},
        "grasp": {"grasp": 1},
        "none": {"not when repeated": 1},
    }
    assert (found["differ"]["k"], found["differ"]["n"]) == (2, 4)


def test_luck_is_told_apart_by_outcome() -> None:
    rows = [
        row(str(i), False, attribution=attribution("grasp", luck=value)) for i, value in enumerate((0, 0, 0.5, 1, None))
    ]
    rows.append(row("won", attribution=attribution(luck=1.0)))
    found = luck(rows)
    assert found["failed"] | {"mean": found["failed"]["mean"]["value"]} == {
        "n": 4,
        "mean": 0.375,
        "never": 2,
        "sometimes": 1,
        "always": 1,
    }
    assert found["succeeded"]["mean"]["value"] == 1.0


def test_the_ladder_stands_for_trials_that_were_not_replayed() -> None:
    rows = [row(f"won{i}") for i in range(6)]
    rows += [row(f"lost{i}", False, attribution=attribution(cause)) for i, cause in enumerate(("language", "grasp"))]
    rows += [row("lost2", False), row("lost3", False)]
    found = ladder(rows)
    assert (found["failed"], found["failed_replayed"], found["succeeded_replayed"]) == (4, 2, 0)
    steps = {step["perfect"]: step["value"] for step in found["steps"]}
    assert steps == {"as it is": 0.6, **dict.fromkeys(CAUSES[:4], 0.8), **dict.fromkeys(CAUSES[4:], 1.0)}
    bounds = [step["bootstrap95"] for step in found["steps"]]
    assert all(low <= step["value"] <= high for step, (low, high) in zip(found["steps"], bounds, strict=True))

    again = attribution(ladder={"language": 0.5})  # a success that was luck half the time
    rows[0] = row("won0", attribution=again)
    assert ladder(rows)["steps"][1]["value"] == pytest.approx(0.6 * 0.5 + 0.4 * 0.5)
    assert ladder([row("a", False)])["steps"] == []  # nothing replayed: nothing is claimed


def test_wordings_are_compared_in_one_place() -> None:
    rows = []
    for seed, outcomes in enumerate(((1, 1), (0, 0), (1, 0), (1, 1))):
        for i, outcome in enumerate(outcomes):
            rows.append(row(f"{seed}-{i}", bool(outcome), seed=seed, command_id=f"c{i}", text=f"wording {i}"))
    rows.append(row("alone", seed=9))
    found = wording(rows)
    assert (found["comparisons"], found["wordings"], found["groups"]) == (4, 8, 1)
    assert [found[name]["k"] for name in ("all_right", "all_wrong", "mixed")] == [2, 1, 1]
    assert found["spread"]["value"] == 0.25
    between, within = (4 + 0 + 1 + 4) / 2 - 25 / 8, 0.5  # sums of squares
    ms_between, ms_within = between / 3, within / 4
    assert found["icc"]["value"] == pytest.approx((ms_between - ms_within) / (ms_between + ms_within), abs=1e-4)
    assert [(w["text"], w["k"], w["n"]) for w in found["widest"][0]["wordings"]] == [
        ("wording 1", 2, 4),
        ("wording 0", 3, 4),
    ]


def test_sensors_against_the_truth() -> None:
    rows = [row(f"a{i}") for i in range(5)]
    rows += [row("b", sensed_success=False), row("c", False, sensed_success=True), row("d", False)]
    rows += [row("e", False, sensed_success=None), row("f", False, sensed_success=False, checks={})]
    found = verified(rows)
    assert (found["judged"], found["not_judged"]) == (8, 2)
    shown = {
        name: (found[name]["k"], found[name]["n"])
        for name in found
        if name.startswith(("agree", "false")) and "keys" not in name
    }
    assert shown == {
        "agree": (6, 8),
        "false_success": (1, 8),
        "false_success_of_claimed": (1, 6),
        "false_success_of_failed": (1, 2),
        "false_failure": (1, 8),
        "false_failure_of_claimed": (1, 2),
        "false_failure_of_succeeded": (1, 6),
    }
    assert found["missed_checks"] == {"lifted": 1}
    assert (found["false_success_keys"], found["false_failure_keys"]) == (["c"], ["b"])


def test_injected_causes_against_blamed_ones() -> None:
    def faulty(key: str, cause: str, found: dict[str, Any] | None, success: bool = False) -> Row:
        return row(key, success, fault={"cause": cause, "name": f"{cause}_fault", "size": 1.0}, attribution=found)

    rows = [
        faulty("a", "grasp", attribution("grasp")),
        faulty("b", "grasp", attribution("planning")),  # pose all the same
        faulty("c", "grounding", attribution("grounding", "grasp")),
        faulty("d", "depth", attribution()),
        faulty("e", "depth", None),
        faulty("f", "depth", None, success=True),
        row("g"),
    ]
    found = confusion(rows)
    assert found is not None
    assert (found["faulty"], found["harmless"], found["not_attributed"], found["n"]) == (6, 1, 1, 4)
    assert [found[name]["k"] for name in ("exact", "among", "kind", "visual_or_pose")] == [1, 2, 2, 2]
    assert found["visual_or_pose"]["n"] == 3
    assert found["table"]["grounding"] == {"several": 1}
    assert found["by_cause"]["grasp"]["rate"] == 0.5
    assert found["by_fault"]["depth: depth_fault 1"]["n"] == 1
    assert confusion([row("g")]) is None


def test_faults_do_not_count_as_the_systems_own_failures() -> None:
    fault = {"cause": "grasp", "name": "bad_rank", "size": None}
    found = figures([row("a"), row("b", False, fault=fault)], planned=3)
    assert found["success"]["overall"]["n"] == 1
    assert (found["with_faults"]["k"], found["with_faults"]["n"]) == (0, 1)
    assert found["trials"]["missing"] == 1
    assert figures([row("b", False, fault=fault)])["success"]["overall"]["n"] == 1  # there is nothing else to show


def test_times_of_stages_are_of_the_trials_that_reached_them() -> None:
    rows = [row("a", cpu_s={"look": 1.0, "plan": 3.0}, wall_s=9.0), row("b", False, cpu_s={"look": 2.0}, wall_s=2.0)]
    found = times(rows)
    assert found["stages"]["plan"]["n"] == 1
    assert found["stages"]["look"]["median"] == 1.5
    assert found["stages"]["look"]["of_all"] == 0.5
    assert found["slowest"] == ["a", "b"]


def test_the_worst_are_of_many_kinds() -> None:
    rows = [row(f"slip{i}", False, confidence=i / 10) for i in range(9)]
    rows += [row("none", False, failure_code="grasp.none"), row("taken", False, sensed_success=True), row("won")]
    assert [r["key"] for r in worst_cases(rows, 5)] == ["taken", "slip8", "none", "slip7", "slip6"]
    assert len(worst_cases(rows)) == 11


def test_bootstrap_of_sums_leaves_out_what_is_no_number() -> None:
    with np.errstate(invalid="ignore"):
        ((value, low, high),) = bootstrap_sums([[0, 0], [3, 4], [1, 4]], lambda s: s[:, :1] / s[:, 1:])
    assert value == 0.5
    assert low == pytest.approx(0.25)
    assert high == pytest.approx(0.75)
    assert np.isnan(bootstrap_sums(np.zeros((0, 2)), lambda sums: sums)).all()


def test_figures_of_nothing_but_successes_are_json() -> None:
    found = figures([row("a"), row("b", seed=2)])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["kinds"]["first"]["visual"]["value"] is None
    assert OK_ROBOT["failed"] == 121


def test_the_page_escapes_what_people_said(tmp_path: Path) -> None:
    evil = "</script><script>alert('x')</script><img src=x onerror=alert(1)> & \"quotes\""
    rows = [row("a", text=evil), row("b", False, text=evil, group=evil, style=evil, setting=evil, failure_code=evil)]
    page = write_evaluation_report([save(tmp_path / "<b>evil", rows)])[0].read_text()
    assert "alert(1)>" not in page.replace("alert(1)&gt;", "")
    assert len(re.findall(r"<script", page)) == 2
    assert "<b>evil" not in page
    data = re.search(r'<script type="application/json" id="table-data">(.*?)</script>', page, re.S)
    assert data is not None
    said = next(column for column in json.loads(data[1]) if column["title"] == "said")
    assert said["levels"] == [evil]


def test_the_page_says_what_is_missing_and_needs_no_network(tmp_path: Path) -> None:
    folder = save(tmp_path / "cut-off", many_rows(60), planned=100)
    page_path, json_path = write_evaluation_report([folder])
    page = page_path.read_text()
    assert "40 trials are missing" in page
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert json.loads(json_path.read_text())["trials"]["missing"] == 40


def test_evaluations_side_by_side_are_settings(tmp_path: Path) -> None:
    rows = many_rows(40)
    others: list[Row] = [{**each, "success": True} for each in rows]
    folders = [save(tmp_path / "old", rows), save(tmp_path / "new", others)]
    with pytest.raises(AffordAgentError, match="--out"):
        write_evaluation_report(folders)
    _, path = write_evaluation_report(folders, tmp_path / "out")
    found = json.loads(path.read_text())
    assert len(found["success"]["by"]["setting"]) == 4
    failures = sum(not each["success"] for each in rows if each["setting"] == "default")
    test = next(t for t in found["paired_settings"] if (t["first"], t["second"]) == ("old: default", "new: default"))
    assert (test["pairs"], test["only_first"], test["only_second"]) == (20, 0, failures)
    assert [s.name for s in open_sources([tmp_path])] == ["new", "old"]  # a folder that holds both


def test_the_table_is_as_good_as_the_lines(tmp_path: Path) -> None:
    folder = save(tmp_path / "lines", many_rows(30))
    write_table(folder)
    (tmp_path / "table").mkdir()
    (folder / "trials.parquet").rename(tmp_path / "table" / "trials.parquet")
    lines, table = (figures(open_sources([tmp_path / name])[0].rows) for name in ("lines", "table"))
    assert lines == table


def test_reports_of_runs_made_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"cell": "sim", "scene": "kitchen", "seed": 3, "noise": False}
    for name, outcome in (("one", "success"), ("two", "failure")):
        failure = None if outcome == "success" else {"stage": "plan", "code": "planning.no_path", "message": "none"}
        record = {"command": "the mug", "outcome": outcome, "failure": failure, "query": None, "stages": []}
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.jsonl").write_text("")
        write_json(tmp_path / name / "run.json", record | {"settings": settings})
    write_annotation(tmp_path / "one", Annotation(outcome="failure", kind="slipped"))
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "events.jsonl").write_text("")
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / PAGE), str(tmp_path / FIGURES)]
    found = json.loads((tmp_path / FIGURES).read_text())
    assert (found["success"]["overall"]["k"], found["trials"]["planned"]) == (0, 3)  # somebody saw it slip
    assert found["verified"]["false_success_keys"] == ["one"]
    assert found["kinds"]["by_evidence"] == 2
    assert found["shapley"]["causes"]["planning"]["value"] == 0.5  # the other one could not plan
    page = (tmp_path / PAGE).read_text()
    assert "Not ended: three." in page
    assert 'href="two/"' in page


def test_a_folder_of_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no evaluation" in capsys.readouterr().err
    save(tmp_path / "new", [])
    assert main(["report", str(tmp_path / "new")]) == 2
    assert "no trial has ended yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        "styles --rounds 3 --first-seed 7 --styles easy hard --scene kitchen novel --noise",
        "depth --sigmas 0 2.5 20 --setting slow:speed=0.5,limits.approach_speed_m_s=0.1 --setting alone:fallback=none",
        "objects --things 4 --repeats 2 --masks truth",
    ],
)
def test_the_command_that_is_shown_asks_for_the_same(options: str) -> None:
    def header(words: list[str]) -> dict[str, Any]:
        asked = _asked(build_parser().parse_args(["eval", *words]))
        return {"suite": words[0], "asked": as_plain(asked.as_json()), "settings": asked.changes, "trials": 9}

    given = header([*options.split(), "--out", "x"])
    shown = command_of(given)
    assert shown is not None
    assert header(shlex.split(shown)[2:]) == given
    assert command_of({"suite": "tasks"}) is None


def test_known_faults_are_read_from_their_study(tmp_path: Path) -> None:
    fault = {"cause": "grasp", "name": "turned, degrees", "size": 45.0}
    same = {"scene": "kitchen", "seed": 3, "noise": False, "failure": "execution.drop", "first_failing": "grasp"}
    same |= {"causal": ["grasp"], "code": "grasp.unstable", "shares": {"grasp": 1.0}, "cpu_s": 5.0, "harmless": False}
    rows = [same | {"key": "one", "faults": [fault]}, same | {"key": "two", "faults": [fault, fault]}]
    rows.append(same | {"key": "three", "faults": [fault], "harmless": True, "causal": []})
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    page, figures_path = write_evaluation_report([tmp_path])
    found = json.loads(figures_path.read_text())["confusion"]
    assert (found["faulty"], found["harmless"], found["n"], found["exact"]["k"]) == (2, 1, 1, 1)
    assert "1 trials with two faults at once are left out" in page.read_text()


def test_the_worst_are_shown(tmp_path: Path) -> None:
    folder = save(tmp_path, [row("seen", False, run="runs/seen/"), row("blind", False), row("won")])
    store = RunStore(folder / "runs" / "seen")
    grey, mask = np.full((48, 64, 3), 90, np.uint8), np.zeros((48, 64), bool)
    mask[10:30, 10:40] = True
    camera = CameraIntrinsics(64, 48, 50.0, 50.0, 31.5, 23.5)
    store.put("frame", RgbdFrame(grey, np.ones((48, 64), np.float32), camera, None, 0.0, "test"))
    store.put("part_mask", PartMask(mask, mask, 0.9, "test"))
    page = write_evaluation_report([folder])[0].read_text()
    (picture,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(html.unescape(picture)))), float)
    assert pixels.shape == (270, 360, 3)
    tint = pixels[..., 0] - pixels[..., 1]
    assert tint[100, 140] > 60
    assert abs(tint[230, 300]) < 10
    assert 'href="runs/seen/"' in page


@pytest.mark.slow
def test_ten_thousand_trials_in_under_a_minute(tmp_path: Path) -> None:
    folder = save(tmp_path, many_rows(10_000))
    start = time.process_time()
    page, _ = write_evaluation_report([folder])
    assert time.process_time() - start < 60
    assert page.stat().st_size < 8e6
