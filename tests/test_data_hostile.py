"""Hostile pictures, links and JSON: none is executed, none hangs, and each is listed with its reason."""

import os
import pickle
import struct
import zlib
from pathlib import Path

import pytest
from hostile_inputs import NAN, bring, exif_jpeg, png, slip
from PIL import Image
from source_folders import H, W, coco, encoded, write_json, writes

PHOTOS = {
    "cut.jpg": lambda: encoded(1)[:400],
    "cut.png": lambda: encoded(1, "PNG")[:-300],
    "no_end.jpg": lambda: encoded(1)[:-200],
    "empty.jpg": lambda: b"",
    "one_byte.png": lambda: b"\x89",
    "magic_alone.jpg": lambda: b"\xff\xd8\xff",
    "bomb.png": lambda: png(60_000, 60_000),
    "wide.png": lambda: png(2_000_000_000, 1),
    "most.png": lambda: png(2**31 - 1, 2**31 - 1),
    "nothing.png": lambda: png(0, 0),
    "text.jpg": lambda: b"not a picture at all",
    "html.png": lambda: b"<html><script>alert(1)</script></html>",
    "svg.png": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "postscript.jpg": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch executed) (w) file\n",
    "postscript.tif": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "pickle.jpg": lambda: pickle.dumps(writes(Path("executed"))),
    "elf.png": lambda: b"\x7fELF" + bytes(200),
    "bad_crc.png": lambda: encoded(1, "PNG").replace(b"IHDR", b"IHDX"),
    "junk.png": lambda: encoded(1, "PNG")[:60] + os.urandom(500),
    "junk.jpg": lambda: encoded(1)[:20] + bytes(range(256)) * 4,
    "tiff_loop.tif": lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "tiff_far.tif": lambda: b"II*\0\xff\xff\xff\x7f",
    "webp.webp": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(30),
    "bmp.bmp": lambda: b"BM" + struct.pack("<IHHIIiiHH6I", 99, 0, 0, 54, 40, 40_000, 40_000, 1, 24, *[0] * 6),
    "notes.txt": lambda: b"hello",
    "script.sh": lambda: b"#!/bin/sh\ntouch executed\n",
    "page.html": lambda: b"<html>",
    "no_ending": lambda: b"x",
    "pictures.zip": lambda: slip("../../executed.png"),
    "absolute.zip": lambda: slip("/tmp/executed.png"),
    "pictures.tar.gz": lambda: zlib.compress(b"x"),
    "pictures.7z": lambda: b"7z\xbc\xaf",
}


def special(root: Path, name: str) -> None:
    """What is no plain file of the folder, under the name of a picture."""
    path = root / name
    outside = root.parent / "outside.png"
    outside.write_bytes(encoded(1, "PNG"))
    if name == "fifo.png":
        os.mkfifo(path)
    elif name == "outside.png":
        path.symlink_to(outside)
    elif name == "device.png":
        path.symlink_to("/dev/zero")
    elif name == "passwd.jpg":
        path.symlink_to("/etc/passwd")
    elif name == "loop.png":
        path.symlink_to(path)
    elif name == "dangling.png":
        path.symlink_to(root / "nowhere.png")
    else:
        path.write_bytes(encoded(2, "PNG"))


SPECIAL = ("fifo.png", "outside.png", "device.png", "passwd.jpg", "loop.png", "dangling.png", "latin\udce9.png")

IMAGE = {"id": 1, "file_name": "1.jpg", "width": W, "height": H}
THING = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [4, 4, 20, 10], "iscrowd": 0}


def rle(counts: object, size: object = (H, W)) -> dict:
    return {"segmentation": {"size": size, "counts": counts}}


COCO: dict[str, dict] = {
    "box of NaN": {"thing": {"bbox": [NAN, 1, 2, 3]}},
    "infinite box": {"thing": {"bbox": [0, 0, float("inf"), 3]}},
    "box of nothing": {"thing": {"bbox": [4, 4, 0, 0]}},
    "box turned round": {"thing": {"bbox": [20, 20, -9, -9]}},
    "box outside": {"thing": {"bbox": [9999, 9999, 5, 5]}},
    "box far left": {"thing": {"bbox": [-50, -50, 20, 20]}},
    "box of texts": {"thing": {"bbox": ["1", "2", "3", "4"]}},
    "box of three": {"thing": {"bbox": [1, 2, 3]}},
    "box as object": {"thing": {"bbox": {"x": 1}}},
    "box of lists": {"thing": {"bbox": [[1], [2], [3], [4]]}},
    "box too large for a float": {"thing": {"bbox": [10**400, 1, 1, 1]}},
    "polygon of NaN": {"thing": {"segmentation": [[NAN, 1, 2, 2, 3, 3]]}},
    "polygon of two points": {"thing": {"segmentation": [[1, 1, 2, 2]]}},
    "polygon of odd length": {"thing": {"segmentation": [[1, 1, 2, 2, 3, 3, 4]]}},
    "polygon of texts": {"thing": {"segmentation": [["1", "1", "2", "2", "3", "3"]]}},
    "polygon as text": {"thing": {"segmentation": ["1122334455"]}},
    "polygon of 50,000 points": {"thing": {"segmentation": [[1.0, 2.0] * 50_000]}},
    "polygon without an inside": {"thing": {"segmentation": [[1, 1, 1, 1, 1, 1]], "category_id": 8}},
    "polygon far away": {"thing": {"segmentation": [[1e308, 1e308, 1e308, 1e307, 1e307, 1e307]], "category_id": 8}},
    "segmentation is a number": {"thing": {"segmentation": 5}},
    "runs too long": {"thing": rle([0, 10**12])},
    "runs too short": {"thing": rle([0, 5])},
    "runs below 0": {"thing": rle([-5, H * W + 5])},
    "runs of floats": {"thing": rle([0.5, H * W - 0.5])},
    "runs of booleans": {"thing": rle([True, H * W - 1])},
    "a huge mask": {"thing": rle([0, 10**10], (100_000, 100_000))},
    "a mask of another size": {"thing": rle([0, 100], (10, 10))},
    "a mask below 0": {"thing": rle([0, 100], (-10, -10))},
    "runs as a text without end": {"thing": rle("o" * 300_000)},
    "runs as broken text": {"thing": rle("\x01\x02é")},
    "runs as an object": {"thing": rle({"a": 1})},
    "an empty mask": {"thing": {**rle([H * W]), "category_id": 8}},
    "a crowd": {"thing": {"iscrowd": 1}},
    "no picture of it": {"thing": {"image_id": 99}},
    "picture as a list": {"thing": {"image_id": [1]}},
    "neither mask nor box": {"thing": {"bbox": None}},
    "a thing without id": {"thing": {"id": None}},
    "a thing that is a text": {"things": ["thing"]},
    "the same thing twice": {"things": [THING, THING], "rows": 1},
    "the same picture twice": {"images": [IMAGE, IMAGE], "rows": 1},
    "absolute path": {"image": {"file_name": "/etc/passwd"}},
    "absolute path to a picture": {"image": {"file_name": "ABSOLUTE"}},
    "path out of the folder": {"image": {"file_name": "../outside.png"}},
    "path far out of the folder": {"image": {"file_name": "../" * 40 + "etc/passwd"}},
    "path with a NUL": {"image": {"file_name": "1.jpg\0.png"}},
    "path that is a folder": {"image": {"file_name": "."}},
    "path that is a number": {"image": {"file_name": 5}},
    "path that is a list": {"image": {"file_name": ["1.jpg"]}},
    "path of great length": {"image": {"file_name": "a" * 100_000}},
    "path by Windows": {"image": {"file_name": "..\\..\\outside.png"}},
    "path by URL": {"image": {"file_name": "file:///etc/passwd"}},
    "link out of the folder": {"image": {"file_name": "link.png"}},
    "picture of another size": {"image": {"width": 5, "height": 5}, "thing": rle([0, 25], [5, 5]) | {"bbox": None}},
    "picture of negative size": {"image": {"width": -5}},
    "picture of giant size": {"image": {"width": 10**9, "height": 10**9}},
    "picture of a size in words": {"image": {"width": "64"}},
    "categories are numbers": {"categories": [1, 2], "thing": {"bbox": [NAN] * 4}},
}  # fmt: skip

JSONS = {
    "deep": b"[" * 1_000_000,
    "deep objects": b'{"a":' * 200_000,
    "digits": b'{"images": [' + b"9" * 100_000 + b'], "annotations": []}',
    "cut": b'{"images": [',
    "no UTF-8": b'{"images": ["\xff\xfe"]}',
    "a list": b"[]",
    "nothing": b"",
    "no lists": b'{"images": 1, "annotations": {}}',
    "a pickle": pickle.dumps(writes(Path("executed"))),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_photos(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / name).write_bytes(PHOTOS[name]())
    rows, (refused,) = bring(tmp_path, "photos", folder)
    assert not rows
    assert refused.source_id == name


@pytest.mark.parametrize("name", SPECIAL, ids=ascii)
def test_links_and_devices(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    special(folder, name)
    rows, (refused,) = bring(tmp_path, "photos", folder)
    assert not rows


@pytest.mark.parametrize("value", [0, 9, 65535, -3, "six", (6, 6), 2**31])
def test_exif_that_is_wrong(tmp_path, monkeypatch, value):
    """Turned by nobody or refused: never by one program alone."""
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    try:
        exif[0x0112] = value
        content = exif_jpeg(exif.tobytes())
    except (struct.error, ValueError, TypeError, OverflowError):
        content = exif_jpeg(b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x09\0" + struct.pack("<i", 6) + b"\xff" * 12)
    self_made = [content, exif_jpeg(b"Exif\0\0MM\0*" + b"\xff" * 40), exif_jpeg(b"Exif\0\0II*\0\xff\xff\xff\x7f")]
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, one in enumerate(self_made):
        (folder / f"{i}.jpg").write_bytes(one)
    rows, refused = bring(tmp_path, "photos", folder)
    assert len(rows) + len(refused) == len(self_made)


@pytest.mark.parametrize("name", COCO)
def test_coco(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "set"
    content = coco(root)
    (tmp_path / "outside.png").write_bytes(encoded(1, "PNG"))
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    bad = COCO[name]
    image = {**IMAGE, **bad.get("image", {})}
    if image["file_name"] == "ABSOLUTE":
        image["file_name"] = str(tmp_path / "outside.png")
    content["images"] = bad.get("images", [image])
    content["annotations"] = bad.get("things", [{**THING, **bad.get("thing", {})}])
    content["categories"] = bad.get("categories", content["categories"])
    write_json(root / "annotations/instances_val2017.json", content)
    rows, refused = bring(tmp_path, "coco", root)
    assert len(rows) == bad.get("rows", 0)
    assert len(refused) == 1, refused


@pytest.mark.parametrize("name", JSONS)
def test_json(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.json").write_bytes(JSONS[name])
    rows, (refused,) = bring(tmp_path, "coco", tmp_path / "set")
    assert not rows
