"""RAGNet's and LISA's folders as published: rows, paths, masks, and what `check` finds."""

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fake_ragnet import H, W, by_class, dump, labels, rows, write_lisa, write_ragnet

from affordagent.agent.cli import main
from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data import lisa, ragnet
from affordagent.finetune.data.check import check, report
from affordagent.finetune.data.entries import samples_of
from affordagent.finetune.data.questions import AFFORDANCE
from affordagent.finetune.data.sets import choose_sets, read_entries
from affordagent.finetune.data.table import load_image, load_mask, read_samples

SIZES = {
    "handal_train": 2, "openx_train": 3, "graspnet_train": 2, "egoobjects_train": 3, "rlbench_train": 3,
    "handal_hard_reasoning_train": 1, "egoobjects_easy_reasoning_train": 1, "egoobjects_hard_reasoning_train": 2,
    "handal_all_val": 2, "handal_mini_val": 1, "graspnet_test_seen_val": 2, "graspnet_test_novel_val": 2,
    "3doi_val": 2, "handal_easy_reasoning_val": 1, "handal_hard_reasoning_val": 1, "3doi_easy_reasoning_val": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("published") / "data"
    write_ragnet(root)
    write_lisa(root)
    return root


def read(root: Path, name: str, seed: int = 0):
    (data_set,) = choose_sets(root, [name])
    return list(samples_of(data_set.read(root, seed)))


def mask_of(sample):
    return load_mask(sample, load_image(sample).shape)


def all_problems(root: Path, *names: str):
    entries = (e for s in choose_sets(root, names) for e in read_entries(root, s, 0))
    return report(check(entries, workers=2))


def test_every_published_set_gives_its_rows(published):
    assert {s.name: len(list(s.read(published, 0))) for s in ragnet.SETS} == SIZES
    assert not all_problems(published, "ragnet").problems


def test_training_rows(published):
    samples = read(published, "openx_train")
    assert [s.category for s in samples] == ["coke can", "Coke Can", "spoon"]
    assert all(s.text in {t.format(s.category.lower()) for t in AFFORDANCE} for s in samples)
    assert all((s.kind, s.source, s.split, s.answer) == ("template", "openx", "train", None) for s in samples)
    assert samples[0].image == str(published / "openx/images/0.jpg")
    assert mask_of(samples[0]).sum() == 20


def test_questions_depend_on_the_seed_alone(published):
    assert read(published, "openx_train", 3) == read(published, "openx_train", 3)
    texts = {tuple(s.text for s in read(published, "openx_train", seed)) for seed in range(8)}
    assert len(texts) > 1


def test_graspnet_ids_choose_the_label(published):
    mug, dragon = read(published, "graspnet_train")
    assert (mug.mask_label, dragon.mask_label) == (8, None)
    assert mask_of(mug).sum() == 20
    plain, with_id = read(published, "graspnet_test_seen_val")
    assert (plain.mask_label, with_id.mask_label) == (None, 8)
    assert mask_of(with_id).sum() == 20
    assert plain.text == "What is the affordance map of mug in this image?"


def test_handal_is_read_from_its_folders(published):
    train, whole = read(published, "handal_train"), read(published, "handal_all_val")
    assert {s.category for s in train} == {"fixed joint pliers"}
    assert train[0].mask == train[0].image.replace("/rgb/", "/mask_parts/")[:-4] + "_000000_handle.png"
    assert all("/train/" in s.image for s in train)
    assert all("/test/" in s.image and s.source == "handal_all" for s in whole)


def test_reasoning_rows_hold_question_and_answer(published):
    (hard,) = read(published, "handal_hard_reasoning_train")
    assert (hard.kind, hard.text) == ("hard", "Help me drive a nail.")
    assert hard.answer == "You can use the handle of the hammer."
    assert [s.kind for s in read(published, "egoobjects_easy_reasoning_train")] == ["easy"]


def test_the_broken_3doi_frame_is_left_out(published):
    samples = read(published, "3doi_val") + read(published, "3doi_easy_reasoning_val")
    assert not any("EK_frame" in s.image for s in samples)


def test_flip_rule(published):
    target, drawer, shoe = read(published, "rlbench_train")
    assert [ragnet.flip_codes(s) for s in (target, drawer, shoe)] == [(-1, 0, 1), (1,), ()]
    assert ragnet.flip_codes(read(published, "openx_train")[0]) == ()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("./data/openx/images/a.png", "/r/openx/images/a.png"),
        ("/disk/x/data/HANDAL/without_depth/a/rgb/1.jpg", "/r/HANDAL/without_depth/a/rgb/1.jpg"),
        ("3doi/images/a.jpg", "/r/3doi/images/a.jpg"),
        ("elsewhere/a.jpg", "/r/elsewhere/a.jpg"),
        ("/abs/elsewhere/a.jpg", "/abs/elsewhere/a.jpg"),
    ],
)
def test_rebasing(path, expected):
    assert ragnet.rebased(path, "/r") == expected


def test_both_pickle_shapes_are_read(tmp_path):
    records = rows(tmp_path, "3doi", ["tap", "door"])
    dump(tmp_path, "openx_train", by_class(records))
    dump(tmp_path, "3doi_val", records)
    assert [s.category for s in read(tmp_path, "openx_train")] == [s.category for s in read(tmp_path, "3doi_val")]


def test_check_lists_every_fault_of_every_set(tmp_path):
    good = rows(tmp_path, "openx", ["a", "b", "c", "d", "e", "f"])
    (tmp_path / "openx/images/1.jpg").unlink()
    cut = (tmp_path / "openx/images/2.jpg").read_bytes()
    (tmp_path / "openx/images/2.jpg").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "openx/masks/3.png").unlink()
    labels(tmp_path / "openx/masks/4.png", {255: (0, 0, 4, 4)}, size=(H + 1, W))
    labels(tmp_path / "openx/masks/5.png", {})
    del good[0]["mask_path"]
    dump(tmp_path, "openx_train", good)
    novel = rows(tmp_path, "graspnet/test_novel", ["lion"], {"graspnet_object_id": 3})
    novel[0]["mask_path"] = "./data/graspnet/test_novel/kinect/depth/0.png"  # as reported of the published file
    dump(tmp_path, "graspnet_test_novel_val", by_class(novel))
    uneven = by_class(rows(tmp_path, "3doi", ["tap"]))
    uneven["labels"]["tap"] = []
    dump(tmp_path, "3doi_val", uneven)
    (tmp_path / "rlbench_train.pkl").write_bytes(b"\x80\x04 not a pickle")
    (tmp_path / "egoobjects_train.pkl").write_bytes(pickle.dumps([{"frame_path": np.float64(1.0)}]))

    found = all_problems(tmp_path, "ragnet")
    by_place = {p.where: (p.what, p.message) for p in found.problems}
    assert by_place["openx_train.pkl, row 0"] == ("row", "no text under 'mask_path'")
    assert by_place["openx_train.pkl, row 1"][1].endswith("openx/images/1.jpg is missing")
    assert by_place["openx_train.pkl, row 2"][0] == "image"
    assert by_place["openx_train.pkl, row 3"][1].endswith("openx/masks/3.png is missing")
    assert "is 32x25" in by_place["openx_train.pkl, row 4"][1]
    assert by_place["openx_train.pkl, row 5"][0] == "empty mask"
    assert by_place["graspnet_test_novel_val.pkl, class 'lion', row 0"][0] == "mask"
    assert "'labels' is not a list as long as 'images' (1)" in by_place["3doi_val.pkl, class 'tap'"][1]
    assert "not a pickle" in by_place["rlbench_train"][1]
    assert "numpy" in by_place["egoobjects_train"][1]
    assert (found.rows, len(found.problems)) == (10, 10)


def test_check_on_the_command_line(tmp_path, capsys):
    records = rows(tmp_path, "openx", ["a", "b"])
    dump(tmp_path, "openx_train", records)
    assert main(["data", "check", "--root", str(tmp_path), "--json"]) == 0
    (tmp_path / "openx/masks/1.png").unlink()
    capsys.readouterr()
    assert main(["data", "check", "--root", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["counts"] == {"mask": 1}
    assert main(["data", "check", "--root", str(tmp_path)]) == 1
    assert "openx_train.pkl, row 1" in capsys.readouterr().out


def test_convert_check_and_stats(published, tmp_path, capsys):
    datasets = pytest.importorskip("datasets")
    out = published / "all.parquet"
    assert main(["data", "convert", "--root", str(published), "--sets", "ragnet", "lisa", "--out", str(out)]) == 0
    samples = read_samples(out)
    ours = [s for f in (ragnet.SETS, lisa.SETS) for d in f for s in samples_of(d.read(published, 0))]
    assert samples == ours
    table = datasets.load_dataset("parquet", data_files=str(out), cache_dir=str(tmp_path), split="train")
    assert len(table) == len(ours)
    assert table[2]["image"] == "openx/images/0.jpg"
    capsys.readouterr()
    assert main(["data", "check", str(out)]) == 0
    assert main(["data", "stats", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["affordance"]["rows"] == sum(SIZES.values())
    assert summary["affordance"]["instructions"] == 8
    assert summary["affordance"]["categories"] == 14
    assert summary["paper"] == {"images": 273_000, "categories": 180, "instructions": 26_000}


def test_convert_refuses_a_broken_row_unless_told(tmp_path, capsys):
    records = rows(tmp_path, "openx", ["a", "b"])
    records[1]["task_object_class"] = None
    dump(tmp_path, "openx_train", records)
    command = ["data", "convert", "--root", str(tmp_path), "--out", str(tmp_path / "o.parquet")]
    assert main(command) == 2
    assert "row 1: no text under 'task_object_class'" in capsys.readouterr().err
    assert not list(tmp_path.glob("o.parquet*"))
    assert main([*command, "--skip-broken"]) == 0
    assert len(read_samples(tmp_path / "o.parquet")) == 1


def test_sets_are_chosen_by_name(published, tmp_path):
    assert {s.name for s in choose_sets(published, ["graspnet"])} == {n for n in SIZES if n.startswith("graspnet")}
    assert len(choose_sets(published)) == len(ragnet.SETS) + len(lisa.SETS)
    with pytest.raises(AffordAgentError, match="Did you mean 'openx_train'"):
        choose_sets(published, ["openx_tran"])
    with pytest.raises(AffordAgentError, match="'3doi' is not in"):
        choose_sets(tmp_path, ["3doi"])


def test_lisa_rows(published):
    everything = {s.name: read(published, s.name) for s in lisa.SETS}
    assert {name: len(some) for name, some in everything.items()} == {
        "ade20k": 2, "cocostuff": 2, "mapillary": 2, "paco_lvis": 2, "pascal_part": 1, "llava": 1, "reason_seg": 3,
        "refclef": 3, "refcoco": 3, "refcoco+": 3, "refcocog": 3,
    }  # fmt: skip
    assert not all_problems(published, "lisa").problems
    assert [(s.category, mask_of(s).sum()) for s in everything["ade20k"]] == [("wall", 64), ("flag", 100)]
    stuff = [(s.category, mask_of(s).sum()) for s in everything["cocostuff"]]
    assert stuff == [("person", H * W - 64 - 4 - 80), ("bottle", 64)]
    assert [s.category for s in everything["mapillary"]] == ["bird", "ground animal"]
    handle, mug = everything["paco_lvis"]
    assert (handle.category, mug.category) == ("mug handle", "mug")
    assert "mug handle" in handle.text or "the handle of the mug" in handle.text
    assert 90 <= mask_of(handle).sum() <= 121


def test_lisa_referring_rows(published):
    for name in ("refcoco", "refclef"):
        first, second, test = read(published, name)
        assert (first.split, second.split, test.split) == ("train", "train", "test")
        assert "man on the left" in first.text
        assert test.text == "What is man in this image? Please output segmentation mask."
        assert (first.kind, first.category) == ("referring", "person")
    assert np.array_equal(mask_of(first), np.eye(H, W, dtype=bool))


def test_lisa_reasoning_rows(published):
    draws = Counter()
    for seed in range(60):
        first, second, val = read(published, "reason_seg", seed)
        assert val.text == "What is where to sit? in this image? Please output segmentation mask."
        for sample in (first, second):
            draws["words" if sample.kind == "vqa" else "explained" if sample.answer else "mask"] += 1
    assert "café" in first.text
    assert mask_of(val).sum() == 16 * 24 - 25
    assert draws["words"] < 30
    assert min(draws["explained"], draws["mask"]) > 30


def test_lisa_conversations_keep_their_rounds(published):
    (talk,) = read(published, "llava")
    assert (talk.text, talk.answer, json.loads(talk.rounds)) == ("What is it?", "A mug.", [["Which colour?", "Red."]])
    assert not mask_of(talk).any()


def test_pictures_are_not_opened_by_reading(tmp_path):
    dump(tmp_path, "openx_train", rows(tmp_path, "openx", ["a"]))
    (tmp_path / "openx/images/0.jpg").unlink()
    (tmp_path / "openx/masks/0.png").unlink()
    assert len(read(tmp_path, "openx_train")) == 1


def test_lisa_faults_are_listed_and_stop_only_their_set(tmp_path):
    write_lisa(tmp_path)
    base = tmp_path / "lisa_data"
    (base / "refer_seg/refcoco/refs(unc).p").write_bytes(pickle.dumps([{"split": np.str_("train")}]))
    refs = pickle.loads((base / "refer_seg/refclef/refs(unc).p").read_bytes())
    refs[0]["ann_id"] = 99
    (base / "refer_seg/refclef/refs(unc).p").write_bytes(pickle.dumps(refs))
    (base / "refer_seg/refcocog/instances.json").write_text("{}")
    (base / "llava_dataset/llava_instruct_150k.json").write_text("{")
    (base / "ade20k/annotations/training/ADE_1.png").write_bytes(b"no picture")
    (base / "reason_seg/ReasonSeg/val/1.json").write_text('{"text": ["x"]}')
    found = all_problems(tmp_path, "lisa")
    assert found.by_place == {
        "ade20k": {"row": 1}, "refclef/refs(unc).p": {"row": 1}, "refcoco": {"row": 1}, "refcocog": {"row": 1},
        "llava": {"row": 1}, "reason_seg": {"row": 1},
    }  # fmt: skip
    messages = " ".join(p.message for p in found.problems)
    for words in ("asks for numpy", "annotation 99 is not in", "no list of 'images'", "is not JSON", "is_sentence"):
        assert words in messages
