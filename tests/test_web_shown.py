"""What the page shows of runs: pictures, the scene in 3D, the list, and why one failed; broken folders too."""

import json
import shutil

import numpy as np
import pytest

from affordagent.agent.pictures import PART_RGB
from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.agent.web.history import BROKEN, UNFINISHED, explanation, in_words, line_of, run_named, runs_of
from affordagent.agent.web.pictures import CHOICE_RGB, CHOSEN_RGB, choices_of, overlay
from affordagent.agent.web.scene3d import figure
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore

MOST_BYTES = 1_500_000
ARTEFACTS = ["query.json", "frame_*", "table.npz", "*mask*", "cloud.npz", "grasps.json", "plan.*"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A planned run, a question with choices, and a refusal."""
    root, tools = tmp_path_factory.mktemp("runs"), Tools()
    with Session(Settings(scene="kitchen", seed=2, dry_run=True), tools) as session:
        session.run("pick up the mug by its handle", root / "planned")
        session.run("stop", root / "refused")
        session.run("hand me the banana <b>now</b>", root / "failed")
    with Session(Settings(scene="twins", seed=3, ask_which=0.5), tools) as session:
        session.run("pick up the mug", root / "asked")
    return root


def count(picture, rgb):
    return int((picture == rgb).all(-1).sum())


def test_the_picture_of_a_plan(root):
    picture = overlay(root / "planned")
    frame = RunStore(root / "planned").get("frame")
    assert picture.shape == frame.color.shape
    assert picture.dtype == np.uint8
    assert count(picture, CHOSEN_RGB) > 30
    assert count(picture, PART_RGB) > 20
    assert overlay(root / "refused") is None


def test_choices_are_numbered_as_in_the_talk(root):
    picture, choices = overlay(root / "asked"), choices_of(RunStore(root / "asked"))
    assert [choice["label"] for choice in choices] == ["the orange one, on the left", "the black one, on the right"]
    for choice in choices:
        x0, y0, x1, _ = choice["box"]
        assert count(picture[y0 - 3 : y0 + 3, x0:x1], CHOICE_RGB) > 0.8 * (x1 - x0)


def test_a_view_at_any_moment_of_a_run(root, tmp_path):
    """As if the run had come so far: with each artefact there is a picture, and nothing is drawn that is not there."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(root / "planned" / "events.jsonl", run)
    traces = []
    for pattern in ARTEFACTS:
        for file in (root / "planned").glob(pattern):
            shutil.copy(file, run)
        picture, view = overlay(run), figure(run)
        assert (picture is None) == (pattern == "query.json")
        traces.append(set() if view is None else {trace.name for trace in view.data})
    assert not traces[0]
    assert "chosen grasp" not in traces[-2]
    assert {"cloud", "table", "other grasps", "chosen grasp", "way there", "approach", "lift"} <= traces[-1]


def test_the_view_is_small_and_true_to_scale(root):
    view = figure(root / "planned")
    assert len(view.to_json()) < MOST_BYTES
    assert view.layout.scene.aspectmode == "data"
    plan = RunStore(root / "planned").get("plan")
    approach = next(trace for trace in view.data if trace.name == "approach")
    end = np.array([approach.x[-1], approach.y[-1], approach.z[-1]])
    assert np.linalg.norm(end - plan.grasp.T_base_tcp[:3, 3]) < 0.003


@pytest.mark.parametrize("file", ["frame_color.png", "table.npz", "mask.png", "grasps.json", "plan.json", "plan.npz"])
def test_damaged_files_are_left_out(root, tmp_path, file):
    run = tmp_path / "run"
    shutil.copytree(root / "planned", run)
    (run / file).write_bytes((run / file).read_bytes()[:40])
    assert (overlay(run) is None) == (file == "frame_color.png")
    figure(run)


def test_the_list_of_runs(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    (tmp_path / "20260101-120000-000001-empty").mkdir()
    (tmp_path / "talks.sqlite").write_bytes(b"")
    (tmp_path / "an evaluation").mkdir()
    for name, events in {
        "killed": None,
        "half a line": b'{"event": "sta',
        "a list": b"[1, 2]\n",
        "no dict": b"3\n",
    }.items():
        shutil.copytree(root / "planned", tmp_path / name)
        (tmp_path / name / "run.json").unlink()
        if events is not None:
            (tmp_path / name / "events.jsonl").write_bytes(events)
    shutil.copytree(root / "planned", tmp_path / "half a result")
    (tmp_path / "half a result" / "run.json").write_text('{"outcome": ')
    (tmp_path / "a link").symlink_to(root / "planned")
    lines = runs_of(tmp_path)
    assert {line.name: line.outcome for line in lines} == {
        "planned": "planned", "refused": "refused", "failed": "failure", "asked": "needs_clarification",
        "killed": UNFINISHED, "half a line": BROKEN, "a list": BROKEN, "no dict": BROKEN, "half a result": BROKEN,
        "20260101-120000-000001-empty": BROKEN,
    }  # fmt: skip
    assert [line.when for line in lines] == sorted((line.when for line in lines), reverse=True)
    assert len(runs_of(tmp_path, limit=2)) == 2
    failed = line_of(tmp_path / "failed")
    assert (failed.code, failed.command) == ("grounding.not_found", "hand me the banana <b>now</b>")
    assert failed.seconds > 0
    for line in lines:
        folder = run_named(tmp_path, line.name)
        assert line.outcome != BROKEN or explanation(folder) is None
        assert (overlay(folder) is None) == (line.name in ("refused", "20260101-120000-000001-empty"))
    assert runs_of(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../planned", "planned/", "planned/../refused", "/etc", "a link", "nothing", "\0", "x" * 5000],
)
def test_only_runs_of_the_folder_are_opened_by_name(root, name):
    with pytest.raises(AffordAgentError, match="there is no run"):
        run_named(root, name)
    assert run_named(root, "planned") == root / "planned"


def test_why_a_run_failed(root):
    told = explanation(root / "failed")
    assert (told.stage, told.code) == ("ground", "grounding.not_found")
    assert "banana" in told.message
    assert told.meaning
    assert told.mends
    assert any(line.startswith("confidence") for line in told.evidence)
    assert explanation(root / "planned") is None


def test_a_failure_of_another_release(root, tmp_path):
    shutil.copytree(root / "failed", tmp_path / "old")
    result = json.loads((tmp_path / "old" / "run.json").read_text())
    result["failure"]["code"] = "grounding.of_old"
    (tmp_path / "old" / "run.json").write_text(json.dumps(result))
    assert explanation(tmp_path / "old").meaning == ""


def test_evidence_in_words():
    said = in_words({
        "off_rad": 0.1, "width_m": 0.034, "valid_fraction": 0.256, "handle_free": False, "read_by": None, "count": 12,
        "choices": [{"label": "the red one", "at_m": [0.1, 0.2, 0.3], "box": [1, 2, 3, 4]}] * 6, "shares": {"0": 0.5},
    })  # fmt: skip
    assert said[:5] == ["off: 5.73 degrees", "width: 34 mm", "valid fraction: 25.6 %", "handle free: no", "count: 12"]
    assert said[5].endswith("; 2 more")
    assert len(in_words({f"fact_{i}": "x" * 1000 for i in range(100)})) == 12
