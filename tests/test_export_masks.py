"""Rows as COCO's and LabelMe's files, and back."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from affordagent.core.errors import AffordAgentError
from affordagent.core.overlap import overlap
from affordagent.core.types import Mask
from affordagent.finetune.data.exporting import export, polygons
from affordagent.finetune.data.rle import decode_rle, encode_rle
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources import coco, labelme
from affordagent.finetune.data.sources.coco import polygon_rle
from affordagent.finetune.data.sources.found import Take
from affordagent.finetune.data.table import load_mask

SIZE = (120, 160)


def rows_in(folder: Path) -> tuple[list[Sample], dict[str, Mask]]:
    """A ring (a hole), two pieces, and rows that are not exported."""
    (folder / "deep").mkdir(parents=True)
    ring, pieces = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    cv2.ellipse(ring, (70, 60), (50, 35), 20, 0, 360, 1, 9)
    cv2.circle(pieces, (40, 40), 20, 1, -1)
    cv2.rectangle(pieces, (100, 70), (140, 100), 1, -1)
    masks = {"mug": ring > 0, "pan": pieces > 0}
    for name in ("a.png", "deep/a.jpg"):
        cv2.imwrite(str(folder / name), np.full((*SIZE, 3), 90, np.uint8))
    mug = Sample(str(folder / "a.png"), "one", category="mug", part="handle", mask_rle=encode_rle(masks["mug"]),
                 licence="CC0")  # fmt: skip
    pan = Sample(str(folder / "deep/a.jpg"), "two", category="pan", mask_rle=encode_rle(masks["pan"]))
    again = Sample(mug.image, "another text", category="mug", part="handle", mask_rle=mug.mask_rle, kind="hard")
    open_ = Sample(mug.image, "", category="pan", status="unlabelled")
    return [mug, pan, again, open_, Sample(mug.image, "not there", category="fork")], masks


def test_coco_there_and_back_is_exact(tmp_path: Path) -> None:
    rows, masks = rows_in(tmp_path / "in")
    out = tmp_path / "coco"
    done = export(rows, out, "coco")
    assert (done.pictures, done.masks, done.left_out) == (2, 2, 2)
    theirs = COCO(str(out / "instances.json"))
    for annotation in theirs.loadAnns(theirs.getAnnIds()):
        name = theirs.loadCats(annotation["category_id"])[0]["name"]
        assert (theirs.annToMask(annotation).astype(bool) == masks[name]).all()
    back = [row for row in coco.rows(out, Take(tmp_path)) if not isinstance(row, Rejected)]
    assert {row.category for row in back} == {"mug", "pan"}
    for row in back:
        assert (row.status, row.tool) == ("labelled", "original")
        assert (load_mask(row, SIZE) == masks[row.category or ""]).all()
        assert Path(row.image).is_file()
    with pytest.raises(AffordAgentError, match="not empty"):
        export(rows, out, "coco")


def test_labelme_there_and_back_keeps_holes_and_pieces(tmp_path: Path) -> None:
    rows, masks = rows_in(tmp_path / "in")
    out = tmp_path / "labelme"
    export(rows, out, "labelme")
    content = json.loads((out / "images/a.json").read_text())
    assert (out / "images" / content["imagePath"]).is_file()
    assert {shape["group_id"] for shape in content["shapes"]} == {1}
    found = list(labelme.rows(out, Take(tmp_path)))
    back = [row for row in found if not isinstance(row, Rejected)]
    assert len(back) == len(found) == 2
    for row in back:
        assert row.status == "labelled"
        assert overlap(load_mask(row, SIZE), masks[row.category or ""]).iou > 0.97


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_polygons_cover_any_mask(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((9, 12)) < share
    if mask.any():
        flat = [points.ravel().tolist() for points in polygons(mask)]
        assert (decode_rle(polygon_rle(flat, mask.shape), (9, 12), "it") == mask).all()


def test_labelme_refuses_what_is_malformed(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*SIZE, 3), np.uint8))
    whole = {"imagePath": "a.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": []}
    shape = {"label": "pan", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon", "group_id": None}
    wrong = {
        "outside": {**whole, "imagePath": "../../etc/passwd"},
        "gigantic": {**whole, "imageHeight": 10**9},
        "list": [1],
        "circle": {**whole, "shapes": [{**shape, "shape_type": "circle"}]},
        "text": {**whole, "shapes": [{**shape, "points": "abc"}]},
        "label": {**whole, "shapes": [{**shape, "label": 5}]},
        "nan": {**whole, "shapes": [{**shape, "points": [[1, 1], [9, 1], [float("inf"), 9]]}]},
    }
    for name, content in wrong.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "broken.json").write_text("{")
    assert [type(one) for one in labelme.rows(tmp_path, Take(tmp_path))] == [Rejected] * 8
    box = {**whole, "shapes": [{**shape, "shape_type": "rectangle", "points": [[2, 3], [10, 8]]}]}
    (tmp_path / "nan.json").write_text(json.dumps(box))
    (row,) = [one for one in labelme.rows(tmp_path, Take(tmp_path)) if isinstance(one, Sample)]
    assert decode_rle(row.mask_rle or row.object_rle or "", SIZE, "it").sum() == 40
