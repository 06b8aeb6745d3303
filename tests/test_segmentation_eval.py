"""The evaluation of segmentation runs, resumes, refuses and reports; both kinds of model answer on real files."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_ragnet import write_ragnet
from PIL import Image

from affordagent.agent.cli import main
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import VlmAnswer
from affordagent.evaluations import segmentation
from affordagent.evaluations.segmentation import evaluate, summary
from affordagent.evaluations.segmentation_page import write_page
from affordagent.evaluations.segmentation_task import Model, limited, task_of_file, task_of_suite, without_missing
from affordagent.evaluations.segmenters import VlmSegmenter, depth_of, open_segmenter
from affordagent.evaluations.suites import SUITES, data_of, samples_of_suite
from affordagent.finetune.data.schema import Sample

SIDE = 24


class Squares:
    """A model in memory: its own answer is the left half, the forced one the whole picture, each with a second mask;
    to "nothing" it gives no mask."""

    def __init__(self):
        self.heard = []

    def answer(self, image, question, max_new_tokens=512, use_cache=True, *, prefix=True):
        self.heard.append((question, prefix))
        return self._say(image, "nothing" in question, SIDE // 2, "Sure, [AFF].")

    def teacher_forced(self, image, question, reply, *, prefix=True):
        self.heard.append((question, reply))
        return self._say(image, False, SIDE, reply)

    def _say(self, image, silent, width, text):
        logits = np.full((0 if silent else 2, *image.shape[:2]), -2.0, np.float32)
        logits[:1, :, :width] = 2.0
        logits[1:] = 3.0
        return VlmAnswer(text, np.zeros(1, np.int64), logits)


@pytest.fixture
def squares(monkeypatch):
    """Every task asks this model; returns it."""
    model = Squares()
    segmentation._opened.cache_clear()
    monkeypatch.setattr(segmentation, "open_segmenter", lambda *_: VlmSegmenter(model))
    yield model
    segmentation._opened.cache_clear()


def write_rows(folder: Path, rows) -> Path:
    """rows: (text, kind, category, columns of foreground or None)."""
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full((SIDE, SIDE, 3), 90, np.uint8)).save(folder / "picture.png")
    with (folder / "rows.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["image", "mask", "text", "kind", "category"])
        for number, (text, kind, category, columns) in enumerate(rows):
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[:, : columns or 0] = 255
            Image.fromarray(mask).save(folder / f"mask{number}.png")
            table.writerow(["picture.png", "" if columns is None else f"mask{number}.png", text, kind, category])
    return folder / "rows.csv"


ROWS = [
    ("the mug", "template", "mug", 12),
    ("I am thirsty.", "hard", "mug", 24),
    ("nothing like it", "hard", "", 6),
    ("nothing of the kind", "easy", "", None),
    ("a cup that is not there", "referring", "", None),
    ("What is this?", "vqa", "", None),
]


def test_figures_and_rows(tmp_path, squares):
    task = task_of_file(write_rows(tmp_path, ROWS), Model(), ("free", "teacher-forced"))
    result = summary(task, evaluate(task))
    assert [round(r["iou"], 4) for r in result["rows"]] == [1.0, 0.5, 0.0, 1.0, 0.0]
    assert [r["index"] for r in result["rows"]] == [0, 1, 2, 3, 4]
    assert {r["image"] for r in result["rows"]} == {"picture.png"}
    assert result["giou"] == pytest.approx(0.5, abs=1e-6)
    both, either = 12 * 24 + 12 * 24, 12 * 24 + 24 * 24 + 6 * 24 + 12 * 24
    assert result["ciou"] == pytest.approx(both / either)
    assert result["n"] == 5
    assert result["skipped"] == {"no mask asked for (vqa)": 1}
    assert result["per_kind"]["hard"]["giou"] == pytest.approx(0.25, abs=1e-6)
    assert result["per_category"]["mug"]["n"] == 2
    assert result["false_refusals"]["k"] == 1
    assert (result["present"]["n"], round(result["present"]["giou"], 4)) == (3, 0.5)
    assert (result["absent_detected"]["k"], result["absent_detected"]["n"]) == (1, 2)
    assert result["generation"] == "free"
    forced = result["teacher_forced"]
    assert [round(r["iou"], 4) for r in forced["rows"]] == [0.5, 1.0, 0.25, 0.0, 0.0]
    assert ("What is the affordance map of mug in this image?", True) in squares.heard
    assert ("What is the affordance map of mug in this image?", "[AFF].") in squares.heard
    json.dumps(result, allow_nan=False)


def test_goes_on_where_it_stopped(tmp_path, squares):
    task = task_of_file(write_rows(tmp_path / "data", ROWS), Model())
    out = tmp_path / "out"
    evaluate(limited(task, 3), out)
    assert len(squares.heard) == 3
    with (out / "rows.jsonl").open("a") as file:
        file.write('{"index": 1, "gener')  # the line at which a run was killed
    calls = []
    rows = evaluate(task, out, on_row=lambda done, total: calls.append((done, total)))
    assert len(squares.heard) == 5
    assert calls == [(4, 5), (5, 5)]
    assert rows == evaluate(task, out)
    assert len(squares.heard) == 5
    assert [r.iou for r in rows] == [r.iou for r in evaluate(task)]


def test_another_task_is_refused_in_the_same_folder(tmp_path, squares):
    file = write_rows(tmp_path / "data", ROWS)
    evaluate(task_of_file(file, Model()), tmp_path / "out")
    with pytest.raises(AffordAgentError, match=r"present_above was 0.4, is 0.3.*choose another --out"):
        evaluate(task_of_file(file, Model(present_above=0.3)), tmp_path / "out")
    write_rows(tmp_path / "data", ROWS[:2])
    with pytest.raises(AffordAgentError, match="data_digest"):
        evaluate(task_of_file(file, Model()), tmp_path / "out")


def test_missing_files_are_listed_or_left_out(tmp_path):
    file = write_rows(tmp_path, ROWS)
    (tmp_path / "mask1.png").unlink()
    task = task_of_file(file, Model())
    with pytest.raises(AffordAgentError, match=r"1 of 5 rows are missing[\s\S]*row 1: .*mask1.png"):
        without_missing(task, skip=False)
    left = without_missing(task, skip=True)
    assert [index for index, _ in left.rows] == [0, 2, 3, 4]
    assert left.skipped["file missing"] == 1


def test_a_broken_row_is_named(tmp_path, squares):
    file = write_rows(tmp_path, ROWS)
    (tmp_path / "mask1.png").write_bytes(b"no picture")
    with pytest.raises(AffordAgentError, match=r"row 1 \('I am thirsty.'\): .*mask1.png"):
        evaluate(task_of_file(file, Model()))


def test_page_shows_the_worst_and_what_was_made_up(tmp_path, squares):
    task = task_of_file(write_rows(tmp_path / "data", ROWS), Model(), ("free", "teacher-forced"))
    rows = evaluate(task)
    page = write_page(task, rows, summary(task, rows), tmp_path).read_text()
    assert "Free generation" in page
    assert "Teacher-forced" in page
    assert page.count("data:image/jpeg;base64,") == 3 + 1 + 3 + 2
    assert "http://" not in page
    assert "https://" not in page


def test_suites_are_the_published_ones_and_can_all_be_found():
    assert len(SUITES) == 8
    for name, suite in SUITES.items():
        data = data_of(suite)
        assert data.name == suite.data
        assert data.name.endswith("_val")
        with pytest.raises(AffordAgentError, match="--root"):
            samples_of_suite(name, Path("nowhere"))
    assert (SUITES["handal"].published_giou, SUITES["graspnet-novel"].published_ciou) == (0.603, 0.332)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere.csv"], "nowhere.csv is not there"),
        (["--suite", "handal"], "--suite needs --root"),
        (["--suite", "coco", "--root", "."], "there are handal, handal-mini"),
        (["--data", "nowhere.csv", "--generation", "both"], "the mini model writes no reply"),
        (["--data", "nowhere.csv", "--vlm", "no/such/folder"], "cannot read no/such/folder/config.json"),
    ],
)
def test_usage_errors_name_the_mend(arguments, words, capsys):
    assert main(["eval", "segmentation", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_mini_on_real_frames_with_their_depth(tmp_path, real_frames, capsys):
    file = tmp_path / "real.csv"
    lines = [
        "image,mask,text,kind",
        f"{real_frames}/red_mug_color.png,{real_frames}/red_mug_handle_mask.png,pick up the red mug,template",
        f"{real_frames}/red_mug_color.png,{real_frames}/red_mug_object_mask.png,the red mug,referring",
        f"{real_frames}/cheezit_color.png,{real_frames}/cheezit_object_mask.png,the cracker box,",
        f"{real_frames}/red_mug_color.png,,the screwdriver,template",
    ]
    file.write_text("\n".join(lines) + "\n")
    assert main(["eval", "segmentation", "--data", str(file), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    handle, mug, box, absent = result["rows"]
    assert handle["iou"] > 0.45
    assert mug["iou"] > 0.75
    assert box["iou"] > 0.75
    assert absent["iou"] == 1.0
    assert handle["evidence"]["proposals_from"] == "depth"
    assert result["vlm"] == "mini"
    assert 0 < result["peak_rss_gb"] < 8


def test_published_checkpoint_gives_the_masks_of_the_reference(tmp_path, real_frames, capsys):
    tiny = real_frames.parent / "affordancevlm_tiny"
    if not tiny.is_dir():
        pytest.skip("the tiny checkpoint is not on this machine (../shared/data/affordancevlm_tiny)")
    file = tmp_path / "tiny.csv"
    lines = [
        "image,mask,text,category,kind",
        f"{tiny}/inputs/bench.png,{tiny}/reference/a0_mask0.png,the hammer,hammer,template",
        f"{tiny}/inputs/bench.png,{tiny}/reference/a3_mask0.png,Can you segment the table in this image?,table,easy",
    ]
    file.write_text("\n".join(lines) + "\n")
    model = ["--vlm", str(tiny / "ckpt"), "--vision-tower", str(tiny / "vision_tower")]
    assert main(["eval", "segmentation", "--data", str(file), *model, "--generation", "both", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["giou"] > 0.999
    assert result["model"]["kind"] == "published"
    assert result["rows"][0]["said"] == "It is [AFF] ."
    assert result["teacher_forced"]["giou"] < 0.999  # another token before it, another mask


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(AffordAgentError, match=r"cannot read .*config.json; vlm is mini"):
        open_segmenter(str(tmp_path))


def test_every_suite_runs_on_a_folder_as_published(tmp_path, squares):
    write_ragnet(tmp_path)
    for name in SUITES:
        task = without_missing(task_of_suite(name, tmp_path, Model(), ("free", "teacher-forced")), skip=False)
        result = summary(task, evaluate(task))
        assert result["suite"] == name
        assert result["n"] == result["teacher_forced"]["n"] > 0
        assert result["published"]["generation"] == "teacher-forced"
        replies = {question for question, said in squares.heard if isinstance(said, str) and said != "[AFF]."}
        assert bool(replies) == ("reasoning" in name)
        squares.heard.clear()


def test_depth_comes_from_columns_or_from_the_frame_beside_the_picture(tmp_path):
    color, camera = np.full((60, 80, 3), 90, np.uint8), {"fx": 70.0, "fy": 70.0, "cx": 40.0, "cy": 30.0}
    counts = np.full((60, 80), 700, np.uint16)
    size = {"width": 80, "height": 60}
    Image.fromarray(color).save(tmp_path / "a_color.png")
    Image.fromarray(counts).save(tmp_path / "a_depth.png")
    frame = Sample(str(tmp_path / "a_color.png"), "the mug")
    assert depth_of(frame, color) is None  # no camera
    (tmp_path / "a_camera.json").write_text(json.dumps({**size, **camera, "depth_unit_m": 0.001}))
    found = depth_of(frame, color)
    assert found.depth_m == pytest.approx(0.7)
    depth = str(tmp_path / "a_depth.png")
    columns = Sample("other.png", "the mug", depth=depth, depth_unit_m=0.002, camera=json.dumps({**size, **camera}))
    found = depth_of(columns, color)
    assert found.depth_m == pytest.approx(1.4)
    assert found.camera.fx == 70.0
    with pytest.raises(AffordAgentError, match="not both of depth_unit_m and camera"):
        depth_of(replace(columns, camera=None), color)
    with pytest.raises(AffordAgentError, match=r"must be \(50, 80\) uint16"):
        depth_of(columns, color[:50])
    with pytest.raises(AffordAgentError, match="give width, height"):
        depth_of(replace(columns, camera="{}"), color)
