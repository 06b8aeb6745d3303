"""The training pictures: labels that agree with the poses, balance, and shards that survive a kill."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import check_rigid, invert, transform_points
from affordagent.robot.sim import dataset
from affordagent.robot.sim.objects import library
from affordagent.robot.sim.scene import TEST_SEEDS, VALIDATION_SEEDS


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "IMAGES_PER_SHARD", 2)
    monkeypatch.setattr(dataset, "OBJECTS_PER_SHARD", 4)
    monkeypatch.setattr(dataset, "TWIN_SLOTS", 1)


def digests(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "meta.json"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_pictures_rows_and_meta_agree(tmp_path: Path) -> None:
    dataset.generate(tmp_path, "val", 2, seed=5)
    rows = dataset.read_rows(tmp_path)
    assert len(rows) == 2
    for row in rows:
        stem = tmp_path / "images" / row["id"]
        color = cv2.imread(f"{stem}_color.jpg")
        depth_m = cv2.imread(f"{stem}_depth.png", cv2.IMREAD_UNCHANGED).astype(float) * 1e-4
        labels = cv2.imread(f"{stem}_labels.png", cv2.IMREAD_UNCHANGED)
        camera = CameraIntrinsics(**row["camera"])
        assert color.shape == (*labels.shape, 3) == (camera.height, camera.width, 3)
        T_base_camera = check_rigid(row["T_base_camera"], "T_base_camera")
        points = camera.back_project(depth_m)
        n, d = np.array(row["plane_camera"][:3]), row["plane_camera"][3]
        height = points @ n + d
        base = transform_points(T_base_camera, points.reshape(-1, 3))[:, 2].reshape(labels.shape)
        np.testing.assert_allclose(height, base, atol=1e-6)
        for obj in row["objects"]:
            mask = (labels // 8 == obj["slot"]) & (labels != dataset.CLUTTER_LABEL)
            part = labels == obj["slot"] * 8 + obj["part_index"]
            assert mask.sum() == obj["visible_px"] > 0
            assert part.sum() == obj["part_px"]
            assert obj["parts"][obj["part_index"] - 1] == obj["part"]
            assert obj["instance"] in VALIDATION_SEEDS
            x0, y0, x1, y1 = obj["box"]
            assert mask[y0:y1, x0:x1].sum() == mask.sum()
            assert mask[:, x0].any()
            assert mask[y1 - 1].any()
            assert height[mask & (depth_m > 0)].min() > -2e-4
            assert (height[mask] > 5e-4).mean() > 0.9
            # the labelled surface lies on the instance at its recorded pose
            made = library.make(obj["category"], obj["instance"])
            assert (made.colour, made.parts) == (obj["colour"], obj["parts"])
            T_object_base = invert(check_rigid(obj["T_base_object"], "T_base_object"))
            seen = transform_points(T_object_base @ T_base_camera, points[part])
            low, high = np.array([v.mesh.bounds for v in made.visuals if v.part == obj["part"]]).swapaxes(0, 1)
            if len(seen):
                assert (seen > low.min(0) - 1e-3).all()
                assert (seen < high.max(0) + 1e-3).all()
    meta = json.loads((tmp_path / "meta.json").read_text())
    counted = Counter(c for row in rows for c in {o["category"] for o in row["objects"]})
    assert meta["images"] == 2
    assert meta["images_with_category"] == dict(counted)


def test_a_killed_run_resumes_to_identical_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    dataset.generate(whole, "train", 4, seed=7)
    saved = 0
    save = dataset.save_pictures

    def killed_at_the_third(*args: object) -> None:
        nonlocal saved
        saved += 1
        if saved == 3:
            raise KeyboardInterrupt
        save(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "save_pictures", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        dataset.generate(cut, "train", 4, seed=7)
    assert [p.name for p in cut.glob("shard_*")] == ["shard_0000.jsonl"]
    first = digests(cut)["shard_0000.jsonl"]
    monkeypatch.setattr(dataset, "save_pictures", save)
    dataset.generate(cut, "train", 4, seed=7)
    assert digests(cut) == digests(whole)
    assert digests(cut)["shard_0000.jsonl"] == first


def test_a_folder_keeps_to_its_split(tmp_path: Path) -> None:
    dataset.write_meta(tmp_path, "val", 5)
    with pytest.raises(AffordAgentError, match="another folder"):
        dataset.generate(tmp_path, "train", 2, seed=5)


def test_categories_are_balanced_and_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def dealt(split: dataset.Split, shards: int) -> Counter[str]:
        hands = (dataset.shard_categories(split, 1, k)[: -dataset.TWIN_SLOTS] for k in range(shards))
        return Counter(c for hand in hands for c in hand)

    def even(names: set[str], counts: Counter[str]) -> bool:
        return max(counts[n] for n in names) - min(counts[n] for n in names) <= 1

    for split, others in (("train", library.EXTRA), ("val", library.EXTRA), ("novel", library.HELD_OUT)):
        counts = dealt(split, 24)
        assert set(counts) == library.CATEGORIES.keys() | others.keys()
        assert even(set(library.CATEGORIES), counts)
        assert even(set(others), counts)
        share = sum(counts[c] for c in library.CATEGORIES) / sum(counts.values())
        assert share > (0.5 if split == "novel" else 0.65)
    assert set(dealt("test", 24)) == set(library.CATEGORIES)
    for k in range(4):
        names = dataset.shard_categories("novel", 1, k)
        assert len(names) == dataset.OBJECTS_PER_SHARD
        assert sum(c in library.HELD_OUT for c in names) == dataset.NOVEL_SLOTS + dataset.TWIN_SLOTS
        assert set(names[-dataset.TWIN_SLOTS :]) <= set(names[: dataset.NOVEL_SLOTS])
    assert dataset.INSTANCE_SEEDS["novel"] == TEST_SEEDS


@pytest.mark.parametrize(
    ("category", "seed"), [("combination wrench", 578364), ("scissors", 0), ("box", 0), ("mug", 0), ("tape measure", 0)]
)
def test_tipped_objects_touch_the_table(category: str, seed: int) -> None:
    item = dataset.make_item(1, seed, library.make(category, seed))
    points = np.concatenate([v.mesh.vertices for v in item.obj.visuals])
    assert len(item.rests) >= 2
    for R, height in zip(item.rests, item.heights_m, strict=True):
        assert np.linalg.det(R) == pytest.approx(1)
        assert (points @ R.T)[:, 2].min() + height == pytest.approx(0, abs=1e-9)
