"""Hostile data sets: none is executed, none hangs, and each is listed with its reason."""

import json
import pickle
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hostile_inputs import NAN, bring, png, slip
from source_folders import (
    H,
    W,
    coco,
    egoobjects,
    encoded,
    example,
    graspnet,
    handal,
    labels,
    lerobot_v2,
    masked,
    openx,
    picture,
    rlbench,
    tfrecord,
    write_json,
    writes,
)
from test_data_hostile import COCO, JSONS, PHOTOS, SPECIAL

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.pictures import look


def lying(length: int, honest: bool = True) -> bytes:
    head = struct.pack("<Q", length)
    return head + (masked(head) if honest else b"\0\0\0\0") + b"abc"


SOUND = example({"steps/observation/image": [encoded(1)], "steps/language_instruction": [b"go"]})
TFRECORDS = {
    "a length beyond the file": lying(10**6),
    "a length beyond all memory": lying(2**63),
    "the largest length": lying(2**64 - 1),
    "a length with another checksum": lying(3, honest=False),
    "content with another checksum": tfrecord(SOUND)[:-1] + b"\0",
    "half a head": b"\x01\x02\x03",
    "no checksum at the end": tfrecord(SOUND)[:-4],
    "no Example": tfrecord(b"\xff" * 40),
    "a pickle": tfrecord(pickle.dumps(writes(Path("executed")))),
    "no picture": tfrecord(example({"steps/reward": [b"x"]})),
    "a wrist camera alone": tfrecord(example({"steps/observation/wrist_image": [encoded(1)]})),
    "a cut picture": tfrecord(example({"steps/observation/image": [encoded(1)[:300]]})),
    "a giant picture": tfrecord(example({"steps/observation/image": [png(60_000, 60_000)]})),
    "nothing in it": tfrecord(b""),
}


@pytest.mark.parametrize("name", TFRECORDS)
def test_tfrecord(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "bridge-train.tfrecord-00000-of-00001").write_bytes(TFRECORDS[name])
    rows, refused = bring(tmp_path, "openx", folder)
    assert not rows
    assert len(refused) == 1


def test_what_came_before_a_lie_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = openx(tmp_path / "set")
    file.write_bytes(file.read_bytes() + lying(10**9))
    rows, refused = bring(tmp_path, "openx", tmp_path / "set")
    assert len(rows) == 6
    assert "says it has 1000000000 bytes" in refused[0].reason


LEROBOT: dict[str, dict] = {
    "a path out of the folder": {"data_path": "../../{episode_index}.parquet"},
    "an absolute path": {"data_path": "/etc/passwd"},
    "a path that reaches into values": {"data_path": "{episode_index.__class__.__mro__}"},
    "a path with an index": {"data_path": "{episode_index[0]}"},
    "a path that asks for more": {"data_path": "{secret}"},
    "a path of great width": {"data_path": "{episode_index:0999999999d}"},
    "a broken path": {"data_path": "{episode_index"},
    "a path that is a number": {"data_path": 5},
    "no path": {"data_path": None},
    "chunks of nothing": {"chunks_size": 0},
    "fps of NaN": {"fps": NAN},
    "fps of nothing": {"fps": 0},
    "features as a list": {"features": []},
    "no camera": {"features": {"action": {"dtype": "float32"}}},
}


WHOLE = ("fps of NaN", "fps of nothing", "features as a list", "no camera")


@pytest.mark.parametrize("name", LEROBOT)
def test_lerobot(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "set"
    lerobot_v2(root)
    info = json.loads((root / "meta/info.json").read_text())
    write_json(root / "meta/info.json", info | LEROBOT[name])
    if name in WHOLE:
        with pytest.raises(AffordAgentError, match="no LeRobot set that can be read"):
            bring(tmp_path, "lerobot", root)
        return
    rows, refused = bring(tmp_path, "lerobot", root)
    assert not rows
    assert len(refused) >= 2


def bad_video(root: Path) -> None:
    """A playlist under the name of a video, which would make ffmpeg read other files."""
    lerobot_v2(root)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.front"]["dtype"] = "video"
    info["video_path"] = "videos/{video_key}/{episode_index:06d}.mp4"
    write_json(root / "meta/info.json", info)
    for e, content in enumerate(
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n")
    ):
        file = root / f"videos/observation.images.front/{e:06d}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def bad_cells(root: Path) -> None:
    lerobot_v2(root)
    cells = [{"bytes": b"x", "path": "/etc/passwd"}, {"bytes": None, "path": "a.png"}] * 2
    for e in range(2):
        file = root / f"data/chunk-000/episode_{e:06d}.parquet"
        pq.write_table(pa.table({"observation.images.front": cells}), file)


def no_parquet(root: Path) -> None:
    lerobot_v2(root)
    for e in range(2):
        (root / f"data/chunk-000/episode_{e:06d}.parquet").write_bytes(b"PAR1 not really PAR1")


def bad_lengths(root: Path) -> None:
    lerobot_v2(root)
    lines = [{"episode_index": 0, "tasks": ["x"], "length": n} for n in (-1, 0, 10**12, "many", None, NAN)]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)))


def objects_in_npy(root: Path) -> None:
    camera = graspnet(root)
    np.save(camera / "camK.npy", np.array([writes(Path("executed"))], object), allow_pickle=True)


def texts_in_npy(root: Path) -> None:
    np.save(graspnet(root) / "camK.npy", np.array([["a"] * 3] * 3))


def small_npy(root: Path) -> None:
    np.save(graspnet(root) / "camK.npy", np.full((2, 2), NAN))


def lying_npy(root: Path) -> None:
    """A header that promises 8 TB."""
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    head += b" " * (118 - len(head) - 1) + b"\n"
    (graspnet(root) / "camK.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head)


def colour_labels(root: Path) -> None:
    camera = graspnet(root)
    for i in range(2):
        picture(camera / f"label/{i:04d}.png", i)


def label_bombs(root: Path) -> None:
    camera = graspnet(root)
    for i in range(2):
        (camera / f"label/{i:04d}.png").write_bytes(png(50_000, 50_000))


def labels_outside(root: Path) -> None:
    camera = graspnet(root)
    (root.parent / "outside.png").write_bytes((camera / "label/0000.png").read_bytes())
    for i in range(2):
        (camera / f"label/{i:04d}.png").unlink()
        (camera / f"label/{i:04d}.png").symlink_to(root.parent / "outside.png")


def handle_boxes(root: Path) -> None:
    scene_folder = handal(root)
    boxes = {"0": [{"bbox_visib": [NAN] * 4}], "1": [{"bbox_visib": [-1, -1, -1, -1]}]}
    write_json(scene_folder / "scene_gt_info.json", boxes)


def handle_cameras(root: Path) -> None:
    camera = {"cam_K": [NAN] * 9, "resolution": [W, H]}
    write_json(handal(root) / "scene_camera.json", {"0": camera, "1": {"resolution": "large"}})


def handle_masks(root: Path) -> None:
    for file in handal(root).glob("mask_visib/*.png"):
        labels(file, {})


def descriptions(root: Path) -> None:
    """The texts of a task as a program; and no picture is whole."""
    episode = rlbench(root)
    (episode.parents[1] / "variation_descriptions.pkl").write_bytes(pickle.dumps(writes(root / "executed_too")))
    for file in episode.glob("front_rgb/*.png"):
        file.write_bytes(b"x")


def torch_program(root: Path) -> None:
    root.mkdir()
    torch.save([writes(Path("executed").absolute())], root / "data_train.pth")


def torch_pickle(root: Path) -> None:
    root.mkdir()
    (root / "data_train.pt").write_bytes(pickle.dumps(writes(Path("executed"))))


def torch_zip(root: Path) -> None:
    root.mkdir()
    (root / "data_val.pth").write_bytes(slip("../../executed.png"))


def torch_rows(root: Path) -> None:
    root.mkdir()
    picture(root / "images/a.jpg")
    thing = {"bbox": [NAN] * 4, "mask": []}
    bad = [
        {"img_name": "../../etc/passwd", "instances": []},
        {"img_name": 5},
        "x",
        {"img_name": "a.jpg", "instances": [thing, {"bbox": [0, 0]}, {"bbox": [0, 0, 1, 1], "mask": [[1e308, 1]]}, 7]},
    ]
    torch.save(bad, root / "data_train.pth")


def ego_boxes(root: Path) -> None:
    egoobjects(root)
    file = root / "data/EgoObjectsV1_unified_eval.json"
    content = json.loads(file.read_text())
    for thing in content["annotations"]:
        thing["bbox"] = [0, 0, -1, NAN]
    write_json(file, content)


def run_of_nonsense(root: Path) -> None:
    for name, camera in (("a", {"width": -1}), ("b", {"fx": "x"}), ("c", []), ("d", {"depth_unit_m": "m"})):
        sound = {"width": W, "height": H, "fx": 50, "fy": 50, "cx": 9, "cy": 9, "depth_unit_m": 1e-3}
        picture(root / name / "frame_color.png")
        picture(root / name / "frame_depth.png")
        write_json(root / name / "frame_camera.json", sound | camera if isinstance(camera, dict) else camera)


def run_that_lies(root: Path) -> None:
    """It succeeded, by its own word, with a mask of another size, outside, or none."""
    sound = {"width": W, "height": H, "fx": 50, "fy": 50, "cx": 9, "cy": 9, "depth_unit_m": 1e-3, "source": "cam"}
    for name in ("a", "b", "c"):
        picture(root / name / "frame_color.png")
        write_json(root / name / "frame_camera.json", sound)
        write_json(root / name / "run.json", {"outcome": "success", "command": "x", "query": {}})
        write_json(root / name / "part_mask.json", {"tool": "x", "confidence": 7 if name == "a" else 0.5})
        picture(root / name / "mask.png", size=(5, 5))
        picture(root / name / "object_mask.png", size=(5, 5))
    (root / "b/mask.png").unlink()
    (root / "b/mask.png").symlink_to("/etc/passwd")


OTHERS = {
    bad_video: "lerobot",
    bad_cells: "lerobot",
    no_parquet: "lerobot",
    bad_lengths: "lerobot",
    objects_in_npy: "graspnet",
    texts_in_npy: "graspnet",
    small_npy: "graspnet",
    lying_npy: "graspnet",
    colour_labels: "graspnet",
    label_bombs: "graspnet",
    labels_outside: "graspnet",
    handle_boxes: "handal",
    handle_cameras: "handal",
    handle_masks: "handal",
    descriptions: "rlbench",
    torch_program: "3doi",
    torch_pickle: "3doi",
    torch_zip: "3doi",
    torch_rows: "3doi",
    ego_boxes: "egoobjects",
    run_of_nonsense: "runs",
    run_that_lies: "runs",
}


@pytest.mark.parametrize("make", OTHERS, ids=lambda make: make.__name__)
def test_others(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "set"
    make(root)
    rows, refused = bring(tmp_path, OTHERS[make], root)
    assert not rows
    assert refused


SOUND_SETS = {
    "handal": handal,
    "graspnet": graspnet,
    "coco": coco,
    "egoobjects": egoobjects,
    "rlbench": rlbench,
    "openx": openx,
    "lerobot": lerobot_v2,
}


@pytest.mark.parametrize("source", SOUND_SETS)
def test_changed_bytes_stop_no_import(tmp_path, monkeypatch, source):
    """Bytes of one file of a sound set are changed, taken out or put in at random."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "set"
    SOUND_SETS[source](root)
    files = sorted(f for f in root.rglob("*") if f.is_file())
    files = [f for f in files if f.suffix not in (".jpg", ".png")] * 4 + files[:4]
    rng = np.random.default_rng(len(source))
    for _ in range(40):
        file = files[int(rng.integers(len(files)))]
        sound = file.read_bytes()
        content = bytearray(sound)
        for at in rng.integers(0, len(content) - 8, int(rng.integers(1, 5))).tolist():
            change = (b"", b"9", b"-1", b"null", b"[]", b"1e999", b"\xff", bytes(content[at : at + 8]) * 2)
            content[at : at + 1] = change[int(rng.integers(len(change)))]
        file.write_bytes(content)
        look.cache_clear()
        with suppress(AffordAgentError):
            bring(tmp_path, source, root)
        file.write_bytes(sound)


def test_there_are_a_hundred():
    assert sum(map(len, (PHOTOS, SPECIAL, COCO, JSONS, TFRECORDS, LEROBOT, OTHERS))) >= 120
