"""The data card and the browser of rows: right counts, leaks told, and no markup of the rows' own."""

import json
from pathlib import Path

import numpy as np
from test_annotate_rows import picture_in
from test_mask_annotation import disc

from affordagent.agent.cli import main
from affordagent.agent.data_browser import ALL, FILTERS, PAGE_ROWS, Browser, build, picture_of
from affordagent.finetune.data.card import GRID, SIZES, measure, write_card
from affordagent.finetune.data.importing import hashed
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import write_parquet

MARKUP = "<script>alert('x')</script>"


def some_rows(folder: Path) -> list[Sample]:
    mug, other = picture_in(folder, "a.png"), picture_in(folder, "b.png", 20)
    rle = encode_rle(disc())
    labelled = {"mask_rle": rle, "category": "mug", "source": "own", "licence": "CC-BY-4.0"}
    return [
        Sample(mug, "the mug", split="train", tool="original", group="g", **labelled),
        Sample(mug, MARKUP, split="test", tool="grabcut_box", kind="hard", group="g", **labelled),
        Sample(other, "the hammer", category="hammer", source="photos", split="train"),
        Sample(other, "", category=MARKUP, source="photos", status="unlabelled", split="train"),
    ]


def test_the_card_counts_and_tells_of_leaks_and_shows_no_markup(tmp_path: Path) -> None:
    rows = list(hashed(some_rows(tmp_path)))
    page = write_card(rows, tmp_path / "rows.parquet", tmp_path / "card.html").read_text()
    assert "4 rows, 2 pictures with 2 categories" in page
    assert "CC-BY-4.0" in page
    assert "2 leaks" in page  # the group, and the pixels
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert "http://" not in page
    assert "https://" not in page
    mended = [row for row in rows if row.split == "train"]
    assert "No leak was found" in write_card(mended, tmp_path / "r.parquet", tmp_path / "b.html").read_text()


def test_masks_are_counted_by_size_and_place(tmp_path: Path) -> None:
    rows = some_rows(tmp_path)[:2]
    rows.append(Sample(str(tmp_path / "gone.png"), "t", mask_rle=rows[0].mask_rle, source_id="gone"))
    found = measure(rows)
    assert (found.opened, sum(found.sizes), int(found.where.sum())) == (2, 2, 2)
    share = disc().mean()
    assert found.sizes[next(i for i, high in enumerate(SIZES[1:]) if share < high)] == 2
    row, column = np.argwhere(found.where == 2)[0]
    assert (row, column) == (int(60 / 120 * GRID[1]), int(70 / 160 * GRID[0]))
    assert [name for name, _ in found.unreadable] == ["gone"]


def test_the_command_writes_the_card_next_to_the_rows(tmp_path: Path, capsys) -> None:
    write_parquet(some_rows(tmp_path), tmp_path / "rows.parquet")
    assert main(["data", "card", str(tmp_path / "rows.parquet")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "rows.card.html")
    assert main(["data", "card", str(tmp_path / "rows.parquet"), "--masks", "-1"]) == 2


def test_the_browser_filters_and_pages(tmp_path: Path) -> None:
    rows = some_rows(tmp_path)
    browser = Browser(rows)
    everything = dict.fromkeys(FILTERS, ALL)
    assert [i for i, _ in browser.page(everything, "", 1).rows] == [0, 1, 2, 3]
    assert [i for i, _ in browser.page(everything | {"source": "own", "kind": "hard"}, "", 1).rows] == [1]
    assert [i for i, _ in browser.page(everything, "HAMMER the", 1).rows] == [2]
    assert browser.choices("split") == [ALL, "test", "train"]
    many = Browser(rows * 10)
    last = many.page(everything, "", 99)
    assert (last.found, last.pages, len(last.rows)) == (40, 2, 40 - PAGE_ROWS)


def test_the_page_of_the_browser_shows_pictures_and_what_cannot_be_read_in_grey(tmp_path: Path) -> None:
    rows = some_rows(tmp_path)
    assert picture_of(rows[0]).size == (160, 120)
    assert picture_of(Sample(str(tmp_path / "gone.png"), "t")).getpixel((3, 3)) == (128, 128, 128)
    config = json.dumps(build(Browser(rows), "rows.parquet").get_config_file(), default=str)
    assert all(f'"label": "{name}"' in config for name in FILTERS)
