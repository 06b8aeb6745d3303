"""The small AffordanceVLM: crops, shapes, training and resuming."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_affordance_set import write_fake_set
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.finetune.crops import CropWindow, crop_geometry
from affordagent.finetune.mini_data import CropSampler, degrade, list_rows, object_mask, part_mask, sample_batch
from affordagent.finetune.mini_model import MiniAffordanceVLM, MiniConfig
from affordagent.finetune.mini_predictor import MiniPredictor, View, export
from affordagent.finetune.mini_texts import TextPool
from affordagent.finetune.mini_train import CONFIGS, Trainer

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def fake_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake_set")
    write_fake_set(folder, 4)
    return folder


@settings(max_examples=30, deadline=None)
@given(st.floats(-20, 60), st.floats(-20, 60), st.floats(30, 200), st.sampled_from([32, 64]))
def test_cut_and_paste_keep_image_coordinates(x0: float, y0: float, side: float, size: int) -> None:
    """A picture that is a linear function of the position stays that function, to and fro."""
    window = CropWindow(x0, y0, side)
    v, u = np.mgrid[:120, :160].astype(np.float32)
    columns, rows = window.pixel_centres(size)
    inside = np.ix_((rows > 3) & (rows < 116), (columns > 3) & (columns < 156))
    for image, want in ((u, np.broadcast_to(columns, (size, size))), (v, np.broadcast_to(rows[:, None], (size, size)))):
        crop = window.cut(image, size)
        assert np.abs(crop - want)[inside].max(initial=0) < 0.08
        back = window.paste(want.astype(np.float32), image.shape)
        reach = (u > max(x0 + side / size, 0)) & (u < x0 + side - side / size - 1)
        reach &= (v > max(y0 + side / size, 0)) & (v < y0 + side - side / size - 1)
        assert np.abs(back - image)[reach].max(initial=0) < 0.08


def test_window_is_centred_on_the_box() -> None:
    window = CropWindow.around((10, 20, 70, 40), 1.5)
    assert (window.x0, window.y0, window.side) == pytest.approx((-5, -15, 90))
    assert CropWindow.around((10, 20, 12, 22), 1.5).side == 48


def test_geometry_channels_hold_height_depth_and_size() -> None:
    camera = CameraIntrinsics(160, 120, 100.0, 100.0, 80.0, 60.0)
    depth = np.full((120, 160), 0.8, np.float32)
    proposal = np.zeros((120, 160), bool)
    proposal[50:70, 60:100] = True
    depth[proposal] = 0.75
    depth[:, 150:] = 0
    window = CropWindow(50, 30, 120)
    channels = crop_geometry(window, 60, proposal, depth, camera, np.array([0, 0, -1.0, 0.8]))
    mask, height, relative, valid, size = channels
    assert mask[15, 15] == pytest.approx(1, abs=0.01)
    assert height[15, 15] == pytest.approx(1.0, abs=0.01)  # 5 cm
    assert height[2, 20] == pytest.approx(0.0, abs=0.01)
    assert relative[2, 20] == pytest.approx(0.5, abs=0.01)
    assert valid[30, 49] == 1
    assert valid[30, 52] == 0
    assert size.max() == pytest.approx(120 * 0.75 / 100 / 0.3, rel=1e-5)
    blind = crop_geometry(window, 60, proposal, np.zeros_like(depth), camera, np.array([0, 0, -1.0, 0.8]))
    assert not blind.any()


def test_rows_still_being_written_are_left_out(fake_set: Path, tmp_path: Path) -> None:
    lines = (fake_set / "shard_0000.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "shard_0000.jsonl").write_text("".join(lines[:2]) + lines[2][:40])
    assert len(list_rows(tmp_path)) == 2
    labels = list_rows(fake_set)[0].labels()
    first = list_rows(fake_set)[0].record["objects"][0]
    assert not (object_mask(labels, first["slot"]) & (labels == 0)).any()
    assert part_mask(labels, first).sum() == first["part_px"]


def test_crops_are_the_same_for_the_same_seed_and_step(fake_set: Path) -> None:
    sampler, rows = CropSampler(TextPool()), list_rows(fake_set)
    first, again = (sample_batch(sampler, rows, 6, 64, 3, 17) for _ in range(2))
    other = sample_batch(sampler, rows, 6, 64, 3, 18)
    assert all(np.array_equal(a.image, b.image) and a.text == b.text for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.image, b.image) for a, b in zip(first, other, strict=True))
    for crop in first:
        assert crop.image.shape == (3, 64, 64)
        assert crop.geometry.shape == (5, 32, 32)
        assert crop.target is None or (crop.target.shape == (2, 16, 16) and crop.target.max() <= 1)


def test_degraded_masks_keep_much_of_the_thing() -> None:
    mask = np.zeros((80, 80), bool)
    mask[30:50, 20:60] = True
    height = np.where(mask, 0.02, 0).astype(np.float32)
    results = [degrade(mask, np.zeros_like(mask), height, np.random.default_rng(i)) for i in range(40)]
    assert all(r.sum() >= 60 for r in results)
    assert np.mean([(r & mask).sum() / mask.sum() for r in results]) > 0.7
    assert any(not np.array_equal(r, mask) for r in results)


def test_training_texts_mean_what_they_say() -> None:
    pool, rng = TextPool(), np.random.default_rng(0)
    for _ in range(60):
        text = pool.draw(rng, "mug", "red", "handle")
        assert text.means("mug", "red")
        assert not text.means("whisk", "red") or "whisk" in text.categories
        assert (text.colour == "red") == (not text.means("mug", "blue"))


@pytest.mark.parametrize("with_depth", [True, False])
def test_forward_shapes(with_depth: bool) -> None:
    net = MiniAffordanceVLM(MiniConfig(32, 16, 1, 24)).eval()
    image = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    geometry = torch.rand(2, 5, 32, 32) if with_depth else torch.zeros(2, 5, 32, 32)
    crop = torch.tensor([0, 1, 1])
    valid = torch.tensor([[True] * 4, [True] * 2 + [False] * 2, [True] * 4])
    tokens = torch.randn(3, 4, 384)
    with torch.inference_mode():
        features = net.encode(image, geometry)
        decoded = net.decode(features, tokens, valid, crop)
        masks = net.masks(features, decoded, crop)
        tokens[1, 2:] = 100.0  # padding must not matter
        padded = net.decode(features, tokens, valid, crop)
        similarity = net.similarities(net.embed_crops(features), net.embed_texts(torch.randn(5, 384)))
    assert masks.shape == (3, 2, 16, 16)
    assert decoded.match.shape == (3,)
    assert similarity.shape == (2, 5)
    assert torch.isfinite(masks).all()
    # the pooled sentence leaves padding out as well, so nothing at all may change
    assert torch.allclose(decoded.queries[1], padded.queries[1], atol=1e-4)


def test_a_resumed_run_continues_identically(fake_set: Path, tmp_path: Path) -> None:
    rows = list_rows(fake_set)
    straight = Trainer(CONFIGS["debug"], tmp_path / "a")
    losses = [straight.train_step(rows, 0.1 * i)["loss"] for i in range(2)]
    halves = Trainer(CONFIGS["debug"], tmp_path / "b")
    halves.train_step(rows, 0.0)
    halves.save()
    resumed = Trainer(CONFIGS["debug"], tmp_path / "b")
    resumed.resume()
    assert resumed.train_step(rows, 0.1)["loss"] == pytest.approx(losses[1], rel=1e-5)
    assert all(np.isfinite(losses))
    for name, value in straight.net.state_dict().items():
        assert torch.allclose(value, resumed.net.state_dict()[name], atol=1e-6), name
    frozen = dict(straight.net.named_parameters())["trunk.conv_stem.weight"]
    assert not frozen.requires_grad


def test_export_loads_without_pickles(fake_set: Path, tmp_path: Path) -> None:
    trainer = Trainer(CONFIGS["debug"], tmp_path / "run")
    trainer.save()
    export(tmp_path / "run", tmp_path / "shipped")
    assert {f.name for f in (tmp_path / "shipped").iterdir()} == {"model.safetensors", "config.json"}
    assert all(v.dtype == torch.float16 for v in load_file(tmp_path / "shipped" / "model.safetensors").values())
    predictor = MiniPredictor(tmp_path / "shipped")
    row = list_rows(fake_set)[0]
    proposal = object_mask(row.labels(), 0)
    view = View(row.color(), row.camera, row.depth_m(), row.plane_camera)
    logits = predictor.compare(predictor.look(view, [proposal, proposal]), ["the mug", "a ball", "it"])
    assert logits.shape == (2, 3)
    assert np.allclose(logits[0], logits[1], atol=1e-4)
    part, whole = predictor.masks(view, proposal, "the mug")
    assert part.shape == whole.shape == row.labels().shape
    assert 0 <= part.min() <= part.max() <= 1


def test_folders_that_are_no_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(AffordAgentError, match="not a checkpoint folder"):
        MiniPredictor(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model": MiniConfig().as_json()}))
    run = Trainer(CONFIGS["debug"], tmp_path / "run")
    run.save()
    (tmp_path / "run" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises((AffordAgentError, RuntimeError)):
        MiniPredictor(tmp_path)
