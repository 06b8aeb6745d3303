"""Finished trials as rows, as a LeRobotDataset, and which of them a person should look at next."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from source_folders import H, W, picture, scene

from affordagent.agent.cli import main
from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.journal import MOTIONS_FILE, MotionJournal
from affordagent.core.run_store import RunStore, write_json
from affordagent.core.types import FunctionalQuery, Grasp, GraspPlan, JointTrajectory, PartMask, RgbdFrame, Verdict
from affordagent.finetune.data.importing import import_to
from affordagent.finetune.data.lerobot_export import CAMERA, FPS, episode_of, export
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.selecting import select
from affordagent.finetune.data.sources import lerobot, runs
from affordagent.finetune.data.sources.found import Take
from affordagent.finetune.data.table import iter_samples, load_mask, load_object_mask

REST = np.array([0.1, -1.2, 1.3, -1.5, -1.57, 0.2])


def frame(seed):
    camera = CameraIntrinsics(W, H, 50, 50, 32, 24)
    return RgbdFrame(scene(seed), np.ones((H, W), np.float32), camera, np.eye(4), 1.5, "sim:kitchen-3")


def box(*at):
    mask = np.zeros((H, W), bool)
    mask[at[1] : at[3], at[0] : at[2]] = True
    return mask


def run(folder, outcome="success", code=None, seed=0, moved=True, doubted=False, confidence=0.9):
    """A run folder as the pipeline leaves it."""
    store = RunStore(folder)
    store.put("query", FunctionalQuery(text="hand me the mug", intent="pick", category="mug", object_words="mug"))
    store.put("frame", frame(seed))
    store.put("part_mask", PartMask(box(4, 4, 10, 20), box(4, 4, 30, 30), confidence, "affordance_vlm"))
    if doubted:
        store.put("first_answer", PartMask(box(4, 4, 10, 20), box(4, 4, 30, 30), 0.5, "affordance_vlm"))
        store.put("second_answer", PartMask(box(4, 12, 10, 28), box(4, 4, 30, 30), 0.5, "tabletop"))
    if moved:
        path = JointTrajectory(REST + np.outer([0, 0.2, 1.0], np.ones(6)), np.array([0, 0.5, 1.0]))
        store.put("plan", GraspPlan(Grasp(np.eye(4), 0.02, 0.9), 0, 0.05, path, path, path))
        store.put("after", frame(seed + 500))
        with MotionJournal(folder / MOTIONS_FILE) as journal:
            for step, goal, begun_s, ended_s, start, end, width in (
                ("open", {}, 10.0, 10.5, REST, REST, 0.05),
                ("to_pregrasp", {}, 10.5, 12.5, REST, REST + 1, 0.05),
                ("close", {}, 12.5, 13.0, REST + 1, REST + 1, 0.02),
            ):
                journal.begin(step, goal, state(begun_s, start, 0.05))
                journal.end(step, {"reached": True, "state": state(ended_s, end, width)})
    failure = None if code is None else {"stage": "execute", "code": code, "message": "x"}
    store.put("verdict", Verdict(outcome == "success", code, {}, {}, "simulator"))
    query = {"category": "mug", "object_words": "mug", "part": "handle"}
    result = {"command": "hand me the mug", "outcome": outcome, "failure": failure, "query": query}
    write_json(folder / "run.json", result)
    return folder


def state(stamp_s, positions, width_m):
    return {"positions": positions.tolist(), "gripper_width_m": width_m, "stamp_s": stamp_s}


def painted(folder, said=None):
    labels = np.zeros((H, W), np.uint8)
    labels[10:40, 10:40] = 128
    labels[10:20, 10:20] = 255
    Image.fromarray(labels).save(folder / "true_mask.png")
    if said is not None:
        write_json(folder / "annotation.json", said)


def rows_of(folder):
    import_to(runs.rows(folder, Take(folder / "made")), folder / "rows.parquet", 1)
    return {row.source_id: row for row in iter_samples(folder / "rows.parquet")}


def test_what_came_of_a_run_decides_its_label(tmp_path):
    run(tmp_path / "good")
    run(tmp_path / "bad", "failure", "execution.slipped", seed=1, doubted=True, confidence=0.6)
    painted(run(tmp_path / "painted", "failure", "ground.wrong_object", seed=2))
    write_json(run(tmp_path / "absent", "failure", "x.y", seed=3) / "annotation.json", {"absent": True})
    write_json(run(tmp_path / "denied", seed=4) / "annotation.json", {"outcome": "failure", "kind": "wrong_part"})
    write_json(run(tmp_path / "praised", "failure", "a.b", seed=5) / "annotation.json", {"outcome": "success"})
    run(tmp_path / "planned", "planned", seed=6, moved=False)
    rows = rows_of(tmp_path)
    assert len(rows) == 7
    good = rows["good"]
    assert (good.status, good.tool, good.confidence, good.failure) == ("labelled", "affordance_vlm", 0.9, None)
    assert "simulator" in good.tool_reason
    assert np.array_equal(load_mask(good, (H, W)), box(4, 4, 10, 20))
    assert np.array_equal(load_object_mask(good, (H, W)), box(4, 4, 30, 30))
    assert (good.text, good.category, good.part, good.kind) == ("hand me the mug", "mug", "handle", "template")
    assert (good.source, good.licence, good.group) == ("sim_run", "MIT", "run/sim:kitchen-3")
    bad = rows["bad"]
    assert (bad.status, bad.failure, bad.mask, bad.confidence) == ("unlabelled", "execution.slipped", None, 0.6)
    assert json.loads(bad.checks)["agreement"] == pytest.approx(8 / 24, abs=0.01)
    assert (rows["painted"].tool, rows["painted"].failure) == ("person", "ground.wrong_object")
    assert load_mask(rows["painted"], (H, W)).sum() == 100
    assert load_object_mask(rows["painted"], (H, W)).sum() == 900
    assert (rows["absent"].status, rows["absent"].mask, rows["absent"].tool) == ("labelled", None, "person")
    assert (rows["denied"].status, rows["denied"].failure) == ("unlabelled", "person.wrong_part")
    assert rows["praised"].status == "labelled"
    assert "by the word of a person" in rows["praised"].tool_reason
    assert (rows["planned"].status, rows["planned"].failure) == ("unlabelled", "planned")


def test_plain_pictures_are_rows(tmp_path):
    picture(tmp_path / "a/mug_color.png")
    camera = {"width": W, "height": H, "fx": 50, "fy": 50, "cx": 32, "cy": 24, "depth_unit_m": 0.001}
    write_json(tmp_path / "a/mug_camera.json", camera)
    (row,) = rows_of(tmp_path).values()
    assert (row.source_id, row.status, row.text, row.depth, row.source) == ("a/mug", "unlabelled", "", None, "run")


def test_a_run_as_an_episode(tmp_path):
    episode = episode_of(run(tmp_path / "r"), "r")
    assert episode.states.shape == (31, 7)  # 3 s, both ends
    assert np.allclose(episode.states[0], [*REST, 0.05])
    assert np.allclose(episode.states[-1], [*(REST + 1), 0.02])
    assert np.allclose(episode.states[15, 0], REST[0] + 0.2, atol=1e-6)  # along the path, not straight
    assert np.array_equal(episode.before, scene(0))
    with pytest.raises(AffordAgentError, match="no motion of it has ended"):
        episode_of(run(tmp_path / "still", moved=False), "still")


def test_a_lerobot_set_and_back(tmp_path):
    run(tmp_path / "runs/a")
    run(tmp_path / "runs/b", "failure", "execution.slipped", seed=1)
    run(tmp_path / "runs/c", "planned", seed=2, moved=False)
    done = export(tmp_path / "runs", tmp_path / "out")
    assert (done.episodes, done.frames, [one.source_id for one in done.rejected]) == (2, 62, ["c"])
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", FPS, 62)
    table = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet")
    assert set(table.column_names) == set(info["features"]) - {CAMERA}
    assert table["index"].to_pylist() == list(range(62))
    assert sum(table["next.success"].to_pylist()) == 1
    assert np.allclose(table["action"].to_pylist()[0], table["observation.state"].to_pylist()[1])
    tasks = pd.read_parquet(tmp_path / "out/meta/tasks.parquet")
    assert tasks.loc["hand me the mug", "task_index"] == 0
    episodes = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"]) for e in episodes] == [(0, 31), (31, 62)]
    trials = [json.loads(line) for line in (tmp_path / "out/meta/trials.jsonl").read_text().splitlines()]
    assert [trial["failure"] for trial in trials] == [None, "execution.slipped"]

    back = list(lerobot.rows(tmp_path / "out", Take(tmp_path / "made", frames_n=31)))
    assert len(back) == 62
    for number, seed in ((0, 0), (29, 0), (30, 500), (31, 1), (61, 501)):
        assert isinstance(back[number], Sample)
        assert np.abs(np.asarray(Image.open(back[number].image)).astype(int) - scene(seed)).mean() < 12, number
    with pytest.raises(AffordAgentError, match="is there already"):
        export(tmp_path / "runs", tmp_path / "out")


def test_what_to_annotate_next(tmp_path):
    run(tmp_path / "sure")
    for i in range(4):
        run(tmp_path / f"alike{i}", "failure", "execution.slipped", seed=1)
    run(tmp_path / "other", "failure", "ground.wrong_object", seed=9)
    run(tmp_path / "unsure", seed=20, confidence=0.3)
    painted(run(tmp_path / "painted", "failure", "x.y", seed=2))
    rows = list(rows_of(tmp_path).values())
    chosen = select(rows, 3)
    names = [one.sample.source_id for one in chosen]
    assert set(names[:2]) == {"alike0", "other"} or names[0].startswith("alike")
    assert "other" in names
    assert len([name for name in names if name.startswith("alike")]) == 1  # the others would teach nothing new
    assert "unsure" in names
    reasons = {one.sample.source_id: one.reason for one in chosen}
    assert "the trial failed: ground.wrong_object" in reasons["other"]
    assert "sure by 0.30 alone" in reasons["unsure"]
    assert [one.sample for one in select(list(reversed(rows)), 3)] == [one.sample for one in chosen]
    assert {one.sample.source_id for one in select(rows, 99)} >= {"alike0", "other", "unsure"}
    assert select([replace(row, tool="person") for row in rows], 5) == []


def test_the_commands(tmp_path, capsys):
    run(tmp_path / "runs/a")
    run(tmp_path / "runs/b", "failure", "execution.slipped", seed=1)
    out = str(tmp_path / "rows.parquet")
    assert main(["data", "from-runs", str(tmp_path / "runs"), "--out", out, "--lerobot", str(tmp_path / "lr")]) == 0
    assert "2 episodes, 62 frames" in capsys.readouterr().out
    assert main(["data", "select", out, "--n", "5", "--json", "--out", str(tmp_path / "next.parquet")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["source_id"] == "b"
    assert [row.source_id for row in iter_samples(tmp_path / "next.parquet")] == ["b"]
