"""Duplicates: what shows the same is found, and no split divides it."""

import io
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from affordagent.agent.cli import main
from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.duplicates import NEAR_BITS, find, leaks, near_pairs, split
from affordagent.finetune.data.importing import hashed
from affordagent.finetune.data.pictures import look, phash_of
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import read_samples, write_parquet


def photo(seed):
    """(120, 160, 3): a table with things on it, as pictures of one camera are alike."""
    rng = np.random.default_rng(seed)
    out = np.full((120, 160, 3), (150, 140, 120), np.uint8)
    out[:30] = 200
    for _ in range(6):
        centre, axes = rng.integers((10, 20), (150, 110)), rng.integers(6, 28, 2)
        colour = tuple(int(n) for n in rng.integers(0, 255, 3))
        cv2.ellipse(out, centre.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, colour, -1)
    return cv2.GaussianBlur(out, (3, 3), 0)


def bits(one, other):
    return bin(int(phash_of(one), 16) ^ int(phash_of(other), 16)).count("1")


def again(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


ALIKE = {
    "saved again": lambda im: again(im, 60),
    "half the size": lambda im: cv2.resize(im, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "twice the size": lambda im: cv2.resize(im, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "brighter": lambda im: np.array(ImageEnhance.Brightness(Image.fromarray(im)).enhance(1.15)),
    "darker": lambda im: np.array(ImageEnhance.Brightness(Image.fromarray(im)).enhance(0.8)),
    "cut by a hundredth": lambda im: np.ascontiguousarray(im[1:-1, 2:-2]),
    "noise": lambda im: np.clip(im + np.random.default_rng(0).normal(0, 6, im.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_looks_alike_is_near(name):
    distances = [bits(photo(seed), ALIKE[name](photo(seed))) for seed in range(30)]
    assert np.mean(np.array(distances) <= NEAR_BITS) >= 0.95, distances


def test_other_pictures_are_far():
    pictures = [photo(seed) for seed in range(60)]
    distances = [bits(a, b) for i, a in enumerate(pictures) for b in pictures[:i]]
    assert np.mean(np.array(distances) <= NEAR_BITS) <= 0.01
    assert np.median(distances) > 20


hashes = st.lists(st.integers(0, 2**64 - 1), min_size=0, max_size=30, unique=True)


@given(hashes, st.lists(st.tuples(st.integers(0, 29), st.sets(st.integers(0, 63), max_size=10)), max_size=10))
def test_no_pair_is_missed(values, changes):
    """As against comparing all."""
    for at, flips in changes:
        if at < len(values):
            values.append(values[at] ^ sum(1 << n for n in flips))
    array = np.array(list(dict.fromkeys(values)), np.uint64)
    expected = {
        (i, j, n)
        for j in range(len(array))
        for i in range(j)
        if (n := bin(int(array[i]) ^ int(array[j])).count("1")) <= NEAR_BITS
    }
    assert sorted(near_pairs(array)) == sorted(expected)


def rows_of(folder, count):
    """Rows of `count` pictures, three of each group, hashed."""
    out = []
    for i in range(count):
        path = folder / f"{i}.png"
        if not path.exists():
            Image.fromarray(photo(i)).save(path)
        mask = encode_rle(np.ones((120, 160), bool))
        out.append(Sample(str(path), "hi", mask_rle=mask, source_id=str(i), group=f"g{i // 3}", split="train"))
    return list(hashed(out))


def test_a_split_divides_nothing_that_belongs_together(tmp_path):
    rows = rows_of(tmp_path, 60)
    Image.fromarray(again(photo(0), 50)).save(tmp_path / "again.png")  # like 0, of another group
    Image.fromarray(photo(30)).save(tmp_path / "copy.png")
    rows += hashed(
        replace(rows[0], image=str(tmp_path / name), group=name, sha256=None, source_id=name)
        for name in ("again.png", "copy.png")
    )
    found = find(rows)
    assert found.exact == 1
    assert [(a, b) for a, b, _ in found.near if b == 60] == [(0, 60)]
    assert found.together[60] == found.together[0] == found.together[2]
    assert found.together[61] == found.together[30]
    done = split(rows, val=0.2, test=0.2, seed=1)
    assert not leaks(done)
    places = {(one, row.split) for one, row in zip(found.together.tolist(), done, strict=True)}
    assert len(places) == len(set(found.together.tolist()))
    counts = Counter(row.split for row in done)
    assert set(counts) == {"train", "val", "test"}
    assert counts["train"] > counts["val"]
    assert split(rows, 0.2, 0.2, seed=1) == done
    assert split(list(reversed(rows)), 0.2, 0.2, seed=1) == list(reversed(done))  # the order plays no part
    assert split(rows[:59], 0.2, 0.2, seed=1)[3:30] == done[3:30]  # nor do the rows that come and go
    assert split(rows, 0.2, 0.2, seed=2) != done


def test_leaks_are_named_and_mended(tmp_path):
    rows = rows_of(tmp_path, 6)
    Image.fromarray(again(photo(0), 70)).save(tmp_path / "again.png")
    Image.fromarray(photo(5)).save(tmp_path / "copy.png")
    rows += hashed(
        replace(rows[0], image=str(tmp_path / name), group=name, sha256=None, source_id=name, split=where)
        for name, where in (("again.png", "test"), ("copy.png", "val"))
    )
    rows[1] = replace(rows[1], split="val")
    found = leaks(rows)
    assert {(leak.why, tuple(sorted(leak.splits))) for leak in found} == {
        ("group", ("train", "val")),
        ("same pixels", ("train", "val")),
        ("look alike", ("test", "train")),
    }
    kept = split(rows, 0, 0, keep=True)
    assert not leaks(kept)
    assert [row.split for row in kept] == ["test"] * 3 + ["val"] * 3 + ["test", "val"]


def test_the_command(tmp_path, capsys):
    rows = rows_of(tmp_path, 30)
    file = tmp_path / "rows.parquet"
    write_parquet([replace(row, sha256=None, phash=None) for row in rows], file)
    assert main(["data", "split", str(file), "--val", "0.3", "--test", "0.3"]) == 0
    assert "0 leaks" in capsys.readouterr().out
    done = read_samples(file)
    assert len({row.split for row in done}) == 3
    assert done[0].sha256 == look(done[0].image).sha256
    write_parquet([replace(row, split="test") if i == 0 else row for i, row in enumerate(done)], file)
    changed = done[0].split != "test"
    assert main(["data", "split", str(file), "--check"]) == int(changed)
    assert main(["data", "split", str(file), str(file)]) == 2


def test_rows_without_hashes_are_refused():
    with pytest.raises(AffordAgentError, match="has no hashes"):
        find([Sample("a.png", "hi")])
    with pytest.raises(AffordAgentError, match="at most 1"):
        split([], 0.9, 0.9)
