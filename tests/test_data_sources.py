"""Sources of pictures and masks as rows: each in the layout it is published in."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from source_folders import (
    H,
    W,
    coco,
    egoobjects,
    encoded,
    graspnet,
    handal,
    labels,
    lerobot_v2,
    openx,
    picture,
    rlbench,
    scene,
    write_json,
)

from affordagent.agent.cli import main
from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.importing import import_to, read_rejects, verified
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.all import SOURCES
from affordagent.finetune.data.sources.found import Take
from affordagent.finetune.data.sources.video import frame_png
from affordagent.finetune.data.table import (
    box_of_row,
    iter_samples,
    load_image,
    load_mask,
    load_object_mask,
    read_samples,
)


def brought(source, folder, made, **options):
    """The rows of an import, and what it refused; each row's picture and masks can be loaded."""
    found = list(verified(SOURCES[source](folder, Take(made, **options)), 1))
    rows = [one for one in found if isinstance(one, Sample)]
    for row in rows:
        shape = load_image(row).shape
        load_object_mask(row, shape)
        if row.status == "labelled":
            load_mask(row, shape)
        assert len(row.sha256) == 64
        assert len(row.phash) == 16
        assert json.loads(row.provenance)
    return rows, [one for one in found if isinstance(one, Rejected)]


def test_handal(tmp_path):
    handal(tmp_path)
    (seen, hidden), refused = brought("handal", tmp_path, tmp_path / "made")
    assert not refused
    assert (seen.category, seen.part, seen.split, seen.tool) == ("measuring cups", "handle", "test", "original")
    assert load_mask(seen, (H, W)).sum() == 6 * 14
    assert load_object_mask(seen, (H, W)).sum() == 25 * 25
    assert box_of_row(seen) == (5, 5, 30, 30)
    assert json.loads(seen.camera)["fy"] == 51
    assert "measuring cups" in seen.text
    assert (hidden.status, hidden.tool, hidden.group) == ("unlabelled", None, seen.group)
    assert seen.licence == "CC-BY-NC-SA-4.0"
    assert brought("handal", tmp_path, tmp_path / "made")[0] == [seen, hidden]


def test_graspnet(tmp_path):
    camera = graspnet(tmp_path)
    rows, refused = brought("graspnet", tmp_path, tmp_path / "made", frames_n=1)
    assert not refused
    mug, banana = rows
    assert (mug.category, mug.part, mug.status, mug.split) == ("mug", "handle", "unlabelled", "test")
    assert load_object_mask(mug, (H, W)).sum() == 18 * 18
    assert (banana.category, banana.part, banana.status, banana.tool) == ("banana", None, "labelled", "original")
    assert load_mask(banana, (H, W)).sum() == 30 * 30
    assert box_of_row(banana) == (30, 10, 60, 40)
    assert banana.depth_unit_m == 0.001
    (tmp_path / "object_names.json").unlink()
    rows, _ = brought("graspnet", tmp_path, tmp_path / "made")
    assert [(row.category, row.text, row.status) for row in rows] == [(None, "", "unlabelled")] * 4
    labels(camera / "label/0000.png", {200: (0, 0, 20, 20)})
    rows, refused = brought("graspnet", tmp_path, tmp_path / "made")
    assert len(rows) == 2
    assert "label 200 is none of the set's things" in refused[0].reason


def test_coco(tmp_path):
    coco(tmp_path)
    (cup, banana), (crowd,) = brought("coco", tmp_path, tmp_path / "made")
    assert (cup.category, cup.status, cup.split) == ("cup", "unlabelled", "val")
    assert load_object_mask(cup, (H, W)).sum() == 20 * 10
    assert box_of_row(cup) == (4, 4, 24, 14)
    assert (banana.status, banana.tool, banana.licence) == ("labelled", "original", "Attribution License")
    assert load_mask(banana, (H, W))[:, :2].all()
    assert "crowd" in crowd.reason


def test_egoobjects(tmp_path):
    egoobjects(tmp_path)
    (mug, thing), refused = brought("egoobjects", tmp_path, tmp_path / "made")
    assert not refused
    assert (mug.category, mug.licence, mug.split, mug.status) == ("Mug", "MIT", "val", "unlabelled")
    assert box_of_row(mug) == (4, 4, 24, 14)
    assert (thing.category, thing.text) == (None, "")
    assert mug.group == thing.group == "egoobjects/V7"


def test_rlbench_runs_no_pickle(tmp_path):
    rlbench(tmp_path)
    rows, refused = brought("rlbench", tmp_path, tmp_path / "made", frames_n=3)
    assert not refused
    assert [json.loads(row.provenance)["frame"] for row in rows] == ["0", "4", "8"]
    assert {(row.text, row.split) for row in rows} == {("close the red jar", "train")}
    assert json.loads(rows[0].provenance)["task"] == "close_jar"
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("described", [True, False])
def test_openx(tmp_path, described):
    openx(tmp_path / "set", described)
    rows, refused = brought("openx", tmp_path / "set", tmp_path / "made", frames_n=2, licence="CC-BY-4.0")
    assert not refused
    assert [row.source_id.rpartition("-00001/")[2] for row in rows] == ["0/0", "0/2", "1/0", "1/2"]
    assert [row.text for row in rows[1:3]] == ["put the pot 0 on the stove", "put the pot 1 on the stove"]
    assert len({row.group for row in rows}) == 2
    assert {(row.split, row.licence) for row in rows} == {("val", "CC-BY-4.0")}
    with open(rows[0].image, "rb") as file:
        assert file.read() == encoded(0)  # as it was published, not compressed again


def test_lerobot_tables(tmp_path):
    lerobot_v2(tmp_path / "set")
    rows, refused = brought("lerobot", tmp_path / "set", tmp_path / "made", frames_n=2)
    assert not refused
    assert [row.source_id for row in rows] == ["set/0/0", "set/0/2", "set/1/0", "set/1/2"]
    assert [row.text for row in rows] == ["task 0", "task 0", "task 1", "task 1"]
    assert rows[0].licence == "apache-2.0"
    assert np.array_equal(load_image(rows[3]), scene(12))


def test_3doi(tmp_path):
    picture(tmp_path / "images/a.jpg")
    thing = {
        "keypoint": [0.3, 0.3],
        "bbox": [0.25, 0.25, 0.5, 0.75],
        "mask": [[0.25, 0.25], [0.5, 0.25], [0.5, 0.75], [0.25, 0.75]],
        "affordance": [0.4, 0.5],
        "movable": "one_hand",
        "rigid": "yes",
        "kinematic": "freeform",
        "pull_or_push": "free",
        "axis": [-1, -1, -1, -1],
    }
    bare = {**thing, "bbox": [-1, -1, -1, -1], "mask": [], "affordance": [-1, -1]}
    torch.save([{"img_name": "a.jpg", "instances": [thing, bare]}], tmp_path / "data_test.pth")
    (known, unknown), refused = brought("3doi", tmp_path, tmp_path / "made")
    assert not refused
    assert box_of_row(known) == (16, 12, 32, 36)
    assert load_object_mask(known, (H, W)).sum() == 16 * 24
    assert json.loads(known.provenance)["touch_px"] == pytest.approx([25.6, 24])
    assert (known.split, unknown.box, unknown.object_rle) == ("test", None, None)


def test_photos_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "mug").mkdir()
    Image.fromarray(scene(3)).save(tmp_path / "mug/turned.jpg", exif=exif)
    picture(tmp_path / "b.png", 4)
    (tmp_path / "notes.txt").write_text("x")
    (plain, turned), (other,) = brought("photos", tmp_path, tmp_path / "made")
    assert load_image(turned).shape == (W, H, 3)
    assert (turned.category, turned.part, turned.status) == ("mug", "handle", "unlabelled")
    assert (plain.category, plain.text) == (None, "")
    assert other.source_id == "notes.txt"


def test_frames_of_a_video(tmp_path):
    import imageio_ffmpeg

    writer = imageio_ffmpeg.write_frames(str(tmp_path / "a.mp4"), (W, H), fps=5, macro_block_size=2, quality=9)
    writer.send(None)
    for grey in (20, 90, 160, 230):
        writer.send(np.full((H, W, 3), grey, np.uint8))
    writer.close()
    for number, grey in enumerate((20, 90, 160, 230)):
        (tmp_path / "f.png").write_bytes(frame_png(tmp_path / "a.mp4", max(0.0, (number - 0.5) / 5)))
        assert np.asarray(Image.open(tmp_path / "f.png")).mean() == pytest.approx(grey, abs=6)
    with pytest.raises(AffordAgentError, match=r"no frame at 9\.000 s"):
        frame_png(tmp_path / "a.mp4", 9.0)


def test_what_is_refused_is_listed_and_stops_nothing(tmp_path):
    picture(tmp_path / "a.png", 1)
    good = Sample(str(tmp_path / "a.png"), "hi", mask_rle=encode_rle(np.ones((H, W), bool)), source_id="good")
    bad = [
        replace(good, source_id="missing", image=str(tmp_path / "none.png")),
        replace(good, source_id="empty", mask_rle=encode_rle(np.zeros((H, W), bool))),
        replace(good, source_id="size", object_rle=encode_rle(np.ones((2, 2), bool))),
        replace(good, source_id="box", box="[0, 0, NaN, 1]"),
        replace(good, source_id="words", category="caf\udce9"),
        good,
        Rejected("source", "said so itself"),
    ]
    counts = import_to([good, *bad], tmp_path / "out.parquet", workers=2)
    assert (counts.rows, counts.labelled, counts.rejected, counts.pictures) == (1, 1, 7, 1)
    (row,) = read_samples(tmp_path / "out.parquet")
    assert row.source_id == "good"
    refused = {one.source_id: one.reason for one in read_rejects(tmp_path / "out.parquet")}
    assert list(refused) == ["missing", "empty", "size", "box", "words", "good", "source"]
    for name, words in (("missing", "is missing"), ("empty", "has no pixel"), ("size", "must have one size"),
                        ("box", "column 'box'"), ("words", "no UTF-8"), ("good", "twice")):  # fmt: skip
        assert words in refused[name]
    with pytest.raises(AffordAgentError, match="no rows to write"):
        import_to(bad[:2], tmp_path / "none.parquet")
    assert len(read_rejects(tmp_path / "none.parquet")) == 2


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "photos/mug/a.png", 1)
    write_json(tmp_path / "photos/b.json", {})
    assert main(["data", "import", "photos", "photos", "--out", "rows.parquet", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["rejected"], said["categories"]) == (1, 1, {"mug": 1})
    (row,) = iter_samples(tmp_path / "rows.parquet")
    assert row.image == str(tmp_path / "photos/mug/a.png")
    assert main(["data", "import", "photo", "photos", "--out", "rows.parquet"]) == 2
    assert "Did you mean 'photos'?" in capsys.readouterr().err
    assert main(["data", "import", "graspnet", "nowhere", "--out", "rows.parquet"]) == 2
