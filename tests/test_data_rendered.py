"""The rendered format as rows of the one schema."""

import json
from collections import Counter

import numpy as np
import pytest
from fake_affordance_set import CAMERA, write_fake_set

from affordagent.agent.cli import main
from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.check import check, report
from affordagent.finetune.data.entries import samples_of
from affordagent.finetune.data.rendered import entries
from affordagent.finetune.data.table import load_image, load_mask, read_samples
from affordagent.finetune.mini_data import list_rows, part_mask
from affordagent.finetune.phrases import phrases


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("rendered")
    write_fake_set(path, 12)
    return path


def samples(folder, seed=0, negatives=1):
    return list(samples_of(entries(folder, seed, negatives)))


def test_three_questions_a_thing_and_one_for_what_is_absent(folder):
    found = samples(folder)
    count = Counter((s.kind, s.mask is None) for s in found)
    assert count["template", False] == count["easy", False] == 36
    assert 30 <= count["hard", False] <= 36
    assert 10 <= sum(n for (_, negative), n in count.items() if negative) <= 12
    assert not report(check(entries(folder, 0))).problems


def test_masks_are_the_parts(folder):
    (row, *_), (sample, *_) = list_rows(folder), samples(folder)
    image = load_image(sample)
    assert np.array_equal(image, row.color())
    assert np.array_equal(load_mask(sample, image.shape), part_mask(row.labels(), row.record["objects"][0]))
    assert sample.depth_unit_m == 1e-4
    assert CameraIntrinsics(**json.loads(sample.camera)) == CAMERA


def test_hard_texts_name_nothing_and_mean_one_thing(folder):
    for sample in samples(folder):
        if sample.kind == "hard":
            assert sample.category not in sample.text.lower()
        if sample.kind == "hard" and sample.mask is not None:
            for other in {"mug", "hammer", "ball"} - {sample.category}:
                assert not any(sample.text == phrase for phrase in phrases()["train"][other])


def test_negatives_ask_for_what_is_not_there(folder):
    absent = [s for s in samples(folder, negatives=5) if s.mask is None]
    assert len(absent) >= 50
    assert not {"mug", "hammer", "ball"} & {s.category for s in absent}
    assert all(s.mask_rle is None and s.depth is not None for s in absent)
    assert not [s for s in absent if s.category == "measuring cup"]  # a mug is there, and both are called cup
    assert not any(s.mask is None for s in samples(folder, negatives=0))


def test_texts_depend_on_seed_and_picture_alone(folder, tmp_path):
    assert samples(folder, 3) == samples(folder, 3)
    assert [s.text for s in samples(folder, 3)] != [s.text for s in samples(folder, 4)]
    write_fake_set(tmp_path, 4)
    fewer = [s.text for s in samples(tmp_path, 3)]
    assert fewer == [s.text for s in samples(folder, 3)][: len(fewer)]


def test_other_splits_are_asked_in_other_words(folder, tmp_path):
    write_fake_set(tmp_path, 6)
    shard = tmp_path / "shard_0000.jsonl"
    shard.write_text(shard.read_text().replace('"split": "train"', '"split": "novel"'))
    found = samples(tmp_path)
    assert {(s.source, s.split) for s in found} == {("rendered_novel", "test")}
    assert not {s.text for s in found} & {s.text for s in samples(folder)}


def test_convert(folder, tmp_path):
    out = folder / "rows.parquet"
    assert main(["data", "convert", "--root", str(folder), "--sets", "rendered", "--out", str(out)]) == 0
    assert read_samples(out) == samples(folder)
    with pytest.raises(AffordAgentError, match="no shard"):
        samples(tmp_path)
