"""Rows in Parquet and CSV, and their masks."""

import json
from dataclasses import fields, replace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import KINDS, Sample
from affordagent.finetune.data.table import (
    ARROW_SCHEMA,
    box_of_row,
    iter_samples,
    load_image,
    load_mask,
    load_object_mask,
    read_samples,
    write_parquet,
)


@pytest.fixture
def folder(tmp_path):
    color = np.zeros((20, 30, 3), np.uint8)
    color[..., 2] = 200  # red, as OpenCV writes it
    cv2.imwrite(str(tmp_path / "a.png"), color)
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 3:9] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    return tmp_path


def write_csv(folder, text):
    file = folder / "own.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_csv_of_ones_own(folder):
    lines = '\ufeffimage,mask,text,kind,category,note\na.png,m.png,"the mug, please",hard,mug,x\n\na.png,,a ball,,,\n'
    found, absent = read_samples(write_csv(folder, lines))
    assert found == Sample(
        str(folder / "a.png"), "the mug, please", mask=str(folder / "m.png"), kind="hard", category="mug"
    )
    assert absent == Sample(str(folder / "a.png"), "a ball")
    image = load_image(found)
    assert image.shape == (20, 30, 3)
    assert image[0, 0].tolist() == [200, 0, 0]
    assert load_mask(found, image.shape).sum() == 24
    assert not load_mask(absent, image.shape).any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,mask,text\na.png,m.png,\n", "own.csv, line 2, column 'text': empty"),
        ("image,mask,text\n\na.png,m.png,hi\n,m.png,hi\n", "own.csv, line 4, column 'image': empty"),
        (
            "image,mask,text,kind\na.png,m.png,hi,heard\n",
            "line 2, column 'kind': 'heard' is not known; one of template",
        ),
        ("image,mask,text,mask_label\na.png,m.png,hi,1.5\n", "column 'mask_label': '1.5' is not a whole number"),
        ("image,mask,text,depth_unit_m\na.png,m.png,hi,mm\n", "column 'depth_unit_m': 'mm' is not a number"),
        ("image,mask,text,mask_label\na.png,,hi,3\n", "column 'mask_label': 3 without a mask file"),
        ("image,text,mask_rle\na.png,hi,xx\n", "column 'mask_rle': not a COCO run-length encoding"),
        ("image,mask,text\na.png,m.png,the mug, please\n", "line 2 has 4 cells, the header has 3"),
        ("image,mask,txt\na.png,m.png,hi\n", "column 'txt' is not known. Did you mean 'text'"),
        ("picture,mask,text\na.png,m.png,hi\n", "no column 'image'; there are picture, mask, text"),
        ("image,text\na.png,hi\n", "no column 'mask'"),
        ("image,mask,mask,text\na.png,m.png,m.png,hi\n", "column 'mask' is there twice"),
        ("image,mask,text\n", "no rows"),
        ("", "is empty"),
    ],
)
def test_errors_name_file_line_and_column(folder, text, words):
    with pytest.raises(AffordAgentError) as error:
        read_samples(write_csv(folder, text))
    assert words in str(error.value)


def test_other_files_are_refused(folder):
    (folder / "broken.parquet").write_bytes(b"PAR1 not really")
    (folder / "latin.csv").write_bytes("image,mask,text\na.png,,caf\xe9\n".encode("latin1"))
    for name, words in (
        ("a.png", "give a .parquet or .csv"),
        ("none.csv", "is not there"),
        ("broken.parquet", "not a Parquet file"),
        ("latin.csv", "not UTF-8"),
    ):
        with pytest.raises(AffordAgentError, match=words):
            read_samples(folder / name)


def test_whole_floats_are_labels(folder):
    (row,) = read_samples(write_csv(folder, "image,mask,text,mask_label\na.png,m.png,hi,255.0\n"))
    assert row.mask_label == 255
    assert isinstance(row.mask_label, int)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: t.strip() == t and t)


@settings(deadline=None)
@given(st.lists(st.builds(Sample, image=st.just("/x/a.png"), text=texts, category=st.none() | texts,
                          kind=st.sampled_from(KINDS), answer=st.none() | texts), min_size=1, max_size=5))  # fmt: skip
def test_parquet_keeps_rows(tmp_path_factory, samples):
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    assert write_parquet(iter(samples), file) == len(samples)
    assert read_samples(file) == samples


def test_a_set_can_be_moved(folder, tmp_path_factory):
    sample = Sample(str(folder / "a.png"), "hi", mask=str(folder / "m.png"), depth="/else/d.png", depth_unit_m=1e-3)
    write_parquet([sample], folder / "s.parquet")
    assert pq.read_table(folder / "s.parquet").schema.equals(ARROW_SCHEMA)
    moved = tmp_path_factory.mktemp("x") / "moved"
    folder.rename(moved)
    (row,) = read_samples(moved / "s.parquet")
    assert (row.image, row.mask, row.depth) == (str(moved / "a.png"), str(moved / "m.png"), "/else/d.png")
    assert load_mask(row, load_image(row).shape).sum() == 24


def test_parquet_of_others(folder):
    """Fewer columns, others besides, and whole floats, as pandas writes them."""
    table = pa.table({"text": ["hi"], "image": ["a.png"], "mask": ["m.png"], "mask_label": [255.0], "score": [0.5]})
    pq.write_table(table, folder / "p.parquet")
    (row,) = read_samples(folder / "p.parquet")
    assert (row.mask_label, row.split, row.source) == (255, "test", "own")


def test_what_cannot_be_read_is_not_written(folder):
    file = folder / "s.parquet"
    for wrong, words in (
        ([], "no rows to write"),
        ([Sample("a.png", "hi"), Sample("a.png", "hi", kind="x")], "row 2, column 'kind'"),
        ([Sample("a.png", "hi", mask="m.png", mask_rle="{}")], "also a mask file"),
    ):
        with pytest.raises(AffordAgentError, match=words):
            write_parquet(wrong, file)
    assert not list(folder.glob("s.parquet*"))


def test_every_field_has_a_column():
    assert ARROW_SCHEMA.names == [f.name for f in fields(Sample)]


def test_labels(folder):
    labels = np.zeros((20, 30), np.uint8)
    labels[0:2], labels[5:7], labels[10:11] = 3, 7, 255
    cv2.imwrite(str(folder / "labels.png"), labels)
    row = Sample(str(folder / "a.png"), "hi", mask=str(folder / "labels.png"))
    assert load_mask(row, (20, 30)).sum() == 150
    assert load_mask(replace(row, mask_label=7), (20, 30, 3)).sum() == 60
    assert load_mask(replace(row, kind="semantic"), (20, 30)).sum() == 120


def test_kinds_of_mask_pictures(folder):
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 3:9] = 1
    palette = Image.fromarray(mask, "P")
    palette.putpalette([9, 9, 9, 200, 0, 0])  # index 0 is not black, but background all the same
    colour = Image.fromarray(np.repeat(mask[..., None] * 255, 3, 2))
    alpha = Image.fromarray(np.dstack([np.full((20, 30, 3), 255, np.uint8), mask * 255]))
    deep = Image.fromarray(mask.astype(np.uint16) * 1000)
    for picture in (palette, colour, alpha, deep, Image.fromarray(mask > 0)):
        picture.save(folder / "kind.png")
        row = Sample(str(folder / "a.png"), "hi", mask=str(folder / "kind.png"))
        assert np.array_equal(load_mask(row, (20, 30)), mask > 0), picture.mode
    colour.save(folder / "kind.png")
    with pytest.raises(AffordAgentError, match="has 3 channels, mask_label 1 needs one"):
        load_mask(replace(row, mask_label=1), (20, 30))


def test_sizes_must_agree(folder):
    row = Sample(str(folder / "a.png"), "hi", mask=str(folder / "m.png"))
    with pytest.raises(AffordAgentError, match=r"m\.png is 30x20, image .*a\.png is 31x20"):
        load_mask(row, (20, 31))
    with pytest.raises(AffordAgentError, match=r"mask_rle is 3x2, image .* is 30x20"):
        load_mask(Sample("a.png", "hi", mask_rle=encode_rle(np.ones((2, 3), bool))), (20, 30))


def test_missing_and_broken_pictures(folder):
    (folder / "bad.png").write_bytes((folder / "m.png").read_bytes()[:40])
    for name, words in (("none.png", "is missing"), ("bad.png", "is broken or not a picture")):
        with pytest.raises(AffordAgentError, match=words):
            load_image(Sample(str(folder / name), "hi"))
        with pytest.raises(AffordAgentError, match=words):
            load_mask(Sample("a.png", "hi", mask=str(folder / name)), (20, 30))


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_run_lengths_round_trip(mask):
    row = Sample("a.png", "hi", mask_rle=encode_rle(mask))
    assert np.array_equal(load_mask(row, mask.shape), mask)


def test_run_lengths_as_a_list():
    row = Sample("a.png", "hi", mask_rle=json.dumps({"size": [2, 3], "counts": [1, 2, 3]}))
    assert load_mask(row, (2, 3)).tolist() == [[False, True, False], [True, False, False]]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126)) | st.lists(st.integers(-5, 10**12) | st.text()))
def test_broken_run_lengths_are_refused_or_fit(counts):
    row = Sample("a.png", "hi", mask_rle=json.dumps({"size": [4, 5], "counts": counts}))
    fits = isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts) and sum(counts) == 20
    try:
        mask = load_mask(row, (4, 5))
    except AffordAgentError:
        assert not fits
    else:
        assert mask.shape == (4, 5)


def test_rows_of_the_annotation(folder):
    """Rows without a mask yet: kept apart from training, with what is known of the whole thing."""
    whole = encode_rle(np.ones((20, 30), bool))
    waiting = Sample(str(folder / "a.png"), "", status="unlabelled", source_id="x/1", group="x", object_rle=whole,
                     box="[1, 2, 9, 8.5]", provenance='{"episode": 3}', licence="CC-BY-4.0")  # fmt: skip
    done = Sample(str(folder / "a.png"), "hi", mask=str(folder / "m.png"), tool="person", confidence=0.5)
    file = folder / "s.parquet"
    write_parquet([waiting, done], file)
    assert read_samples(file) == [done]
    assert read_samples(file, unlabelled=True) == list(iter_samples(file)) == [waiting, done]
    assert box_of_row(waiting) == (1, 2, 9, 8.5)
    assert load_object_mask(waiting, (20, 30)).all()
    assert load_object_mask(done, (20, 30)) is None
    with pytest.raises(AffordAgentError, match="is unlabelled"):
        load_mask(waiting, (20, 30))
    write_parquet([waiting], file)
    with pytest.raises(AffordAgentError, match="no rows whose mask is known"):
        read_samples(file)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "soon"}, "'soon' is not known"),
        ({"status": "unlabelled", "mask": "m.png"}, "unlabelled, but there is a mask"),
        ({"object_mask": "m.png", "object_rle": '{"size": [1, 1], "counts": [1]}'}, "'object_rle': there is also"),
        ({"object_label": 3}, "'object_label': 3 without"),
        *(({"box": box}, "column 'box'") for box in ("[NaN, 0, 1, 1]", "[-1, 0, 1, 1]", "[5, 0, 5, 1]", "[1, 2, 3]",
                                                     "{}", "x", "[0, 0, 1e999, 1]", "[" * 100_000)),
        ({"confidence": 1.2}, "not between 0 and 1"),
        ({"confidence": float("nan")}, "not between 0 and 1"),
    ],
)  # fmt: skip
def test_odd_columns_are_refused(folder, fields, words):
    with pytest.raises(AffordAgentError, match=words):
        write_parquet([Sample("a.png", "hi", **fields)], folder / "s.parquet")


def test_a_run_length_without_end_takes_no_time():
    for counts in ("o" * 200_000, [1] * 10, [True, 599], [10**30], "\x00", "é" * 100):
        row = Sample("a.png", "hi", mask_rle=json.dumps({"size": [20, 30], "counts": counts}))
        with pytest.raises(AffordAgentError, match="do not add up to 600"):
            load_mask(row, (20, 30))
