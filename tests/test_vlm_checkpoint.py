"""The published folder format: read, written, refused; and the real model's shape without its weights."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig

from affordagent.agent.cli import main
from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.checkpoint import (
    build_network,
    load_network,
    open_checkpoint,
    published_state,
    save_published,
    save_safetensors,
)
from affordagent.finetune.vlm.network import NetworkShape, SamShape
from affordagent.finetune.vlm.precision import check_memory, memory_need
from affordagent.finetune.vlm.predictor import VlmPredictor
from affordagent.finetune.vlm.tiny import write_tiny_vlm
from affordagent.finetune.vlm.weights import read_weights, weight_files, write_weights

QUESTION = "What is the affordance map of hammer in this image?"
REFERENCE = Path(__file__).parents[1].parent / "shared" / "data" / "affordancevlm_tiny" / "ckpt"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    return write_tiny_vlm(tmp_path_factory.mktemp("made"))


@pytest.fixture
def copied(made, tmp_path) -> Path:
    """A checkpoint with its tower beside it, to be damaged."""
    for folder in made:
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / "ckpt"


def logits(ckpt: Path, tower: Path | None = None) -> np.ndarray:
    image = np.random.default_rng(3).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return VlmPredictor(ckpt, tower).teacher_forced(image, QUESTION, "It is [SEG] and [AFF].").mask_logits


def test_every_way_of_storing_gives_the_same_masks(made, tmp_path):
    ckpt, tower = made
    expected = logits(ckpt, tower)
    opened = open_checkpoint(ckpt, tower)
    network = load_network(opened, torch.float32, CPU)
    for name, save, shard_bytes in (
        ("plain", save_published, 10**9),
        ("shards", save_published, 200_000),
        ("safe", save_safetensors, 10**9),
        ("safe_shards", save_safetensors, 200_000),
    ):
        save(network, opened, tmp_path / name, shard_bytes)
        assert (len(weight_files(tmp_path / name)) > 1) == (shard_bytes < 10**6)
        loaded = load_network(open_checkpoint(tmp_path / name, tower), torch.float32, CPU).state_dict()
        assert loaded.keys() == network.state_dict().keys()
        assert all(torch.equal(loaded[k], w) for k, w in network.state_dict().items())
    assert np.array_equal(logits(tmp_path / "safe_shards", tower), expected)


def test_export_is_the_published_format(made, tmp_path):
    ckpt, tower = made
    opened = open_checkpoint(ckpt, tower)
    save_published(load_network(opened, torch.float32, CPU), opened, tmp_path / "out")
    before, after = read_weights(ckpt), read_weights(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not [k for k in after if "vision_tower" in k]
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written == json.loads((ckpt / "config.json").read_text())
    for name in ("tokenizer.model", "added_tokens.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (ckpt / name).read_bytes()


def test_export_in_bf16_halves_the_files(made, tmp_path):
    opened = open_checkpoint(*made)
    save_safetensors(load_network(opened, torch.bfloat16, CPU), opened, tmp_path / "half")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert {w.dtype for w in read_weights(tmp_path / "half").values()} == {torch.bfloat16}
    assert logits(tmp_path / "half", made[1]).shape == (2, 48, 64)


def test_what_is_not_overwritten_or_saved(made, tmp_path):
    opened = open_checkpoint(*made)
    with pytest.raises(AffordAgentError, match="not empty"):
        save_published(load_network(opened, torch.float32, CPU), opened, made[0])
    pytest.importorskip("bitsandbytes")
    with pytest.raises(AffordAgentError, match="Linear4bit layers cannot be saved"):
        save_published(load_network(opened, torch.float32, CPU, "4bit"), opened, tmp_path / "out")


def test_a_whole_clip_folder_serves_as_tower(copied):
    expected = logits(copied)
    tower = copied.parent / "vision_tower"
    config = json.loads((tower / "config.json").read_text())
    whole = {"model_type": "clip", "text_config": {"hidden_size": 8}, "vision_config": config}
    (tower / "config.json").write_text(json.dumps(whole))
    weights = {k: w.clone() for k, w in read_weights(tower).items()}
    extra = {"text_model.final_layer_norm.bias": torch.zeros(8), "logit_scale": torch.tensor(1.0)}
    position_ids = {"vision_model.embeddings.position_ids": torch.arange(257)[None]}
    write_weights(weights | extra | position_ids, tower, "model.safetensors")
    assert np.array_equal(logits(copied), expected)


def test_tower_is_found_where_config_says(copied):
    expected = logits(copied)
    named = copied / "openai" / "clip-vit-large-patch14"
    named.parent.mkdir()
    (copied.parent / "vision_tower").rename(named)
    assert np.array_equal(logits(copied), expected)


def test_missing_tower_names_the_option(copied):
    shutil.rmtree(copied.parent / "vision_tower")
    with pytest.raises(AffordAgentError, match=r"clip-vit-large-patch14.*--vision-tower"):
        open_checkpoint(copied)
    with pytest.raises(AffordAgentError, match="--vision-tower"):
        open_checkpoint(copied, copied.parent)


def rewrite(folder: Path, change) -> None:
    weights = {k: w.clone() for k, w in read_weights(folder).items()}
    change(weights)
    (folder / "pytorch_model.bin").unlink()
    write_weights(weights, folder, "pytorch_model.bin")


def reconfigure(file: Path, **values) -> None:
    config = json.loads(file.read_text()) | values
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"intermediate_size": 40}, r"gate_proj.weight is \(48, 32\) in the weights, \(40, 32\) by config"),
        ({"num_hidden_layers": 3}, r"lacks model.layers.2.* and \d+ more"),
        ({"num_hidden_layers": 1}, "weights that the model does not have: model.layers.1"),
        ({"mm_vision_select_feature": "cls_patch"}, "mm_vision_select_feature 'cls_patch'"),
    ],
)
def test_config_that_does_not_fit(copied, values, message):
    reconfigure(copied / "config.json", **values)
    with pytest.raises(AffordAgentError, match=message):
        open_checkpoint(copied)


def test_weights_that_do_not_fit(copied):
    rewrite(copied, lambda w: w.update({"base_model.q_proj.lora_A.weight": torch.zeros(2, 2)}))
    with pytest.raises(AffordAgentError, match="merge them first"):
        open_checkpoint(copied)
    rewrite(copied, lambda w: w.pop("base_model.q_proj.lora_A.weight"))
    rewrite(copied, lambda w: w.pop("model.mm_projector.weight"))
    with pytest.raises(AffordAgentError, match="lack model.mm_projector.weight"):
        open_checkpoint(copied)


def test_tokenizer_of_another_checkpoint(copied):
    def cut(weights):
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[name] = weights[name][:-1]

    rewrite(copied, cut)
    with pytest.raises(AffordAgentError, match="404 tokens, the weights 403"):
        open_checkpoint(copied)


@pytest.mark.parametrize(
    ("values", "message"), [({"image_size": 336}, "576 patches"), ({"hidden_size": 20}, "20 wide")]
)
def test_a_tower_of_another_model(copied, values, message):
    reconfigure(copied.parent / "vision_tower" / "config.json", **values)
    with pytest.raises(AffordAgentError, match=f"{message}.*--vision-tower"):
        open_checkpoint(copied)


def test_no_checkpoint_at_all(copied, tmp_path):
    with pytest.raises(AffordAgentError, match="has no config.json"):
        open_checkpoint(tmp_path / "nothing")
    (copied / "pytorch_model.bin").unlink()
    with pytest.raises(AffordAgentError, match="holds no weights"):
        open_checkpoint(copied)
    (copied / "config.json").write_text("{")
    with pytest.raises(AffordAgentError, match=r"cannot read .*config.json"):
        open_checkpoint(copied)


def test_missing_shard(made, tmp_path):
    ckpt, tower = made
    opened = open_checkpoint(ckpt, tower)
    save_published(load_network(opened, torch.float32, CPU), opened, tmp_path / "out", 200_000)
    lost = weight_files(tmp_path / "out")[1]
    lost.unlink()
    with pytest.raises(AffordAgentError, match=lost.name):
        open_checkpoint(tmp_path / "out", tower)


def test_an_index_cannot_point_outside(copied):
    (copied / "pytorch_model.bin").rename(copied.parent / "secret.bin")
    index = {"weight_map": {"model.norm.weight": "../secret.bin"}}
    (copied / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(AffordAgentError, match="secret.bin, not there"):
        open_checkpoint(copied)


class Bomb:
    def __reduce__(self):
        return (Path("fired").touch, ())


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_weights_is_never_run(copied, tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save({"model.norm.weight": Bomb()}, copied / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(AffordAgentError, match="would run code"):
        open_checkpoint(copied)
    assert not (tmp_path / "fired").exists()


def test_weight_files_that_are_none(copied):
    (copied / "pytorch_model.bin").write_bytes(b"<html>404</html>")
    with pytest.raises(AffordAgentError, match="download it again"):
        open_checkpoint(copied)
    torch.save([1, 2], copied / "pytorch_model.bin")
    with pytest.raises(AffordAgentError, match="not a state dict"):
        open_checkpoint(copied)
    (copied / "model.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(AffordAgentError, match=r"model.safetensors cannot be read"):
        open_checkpoint(copied)


def test_weights_of_an_old_torch(copied):
    expected = logits(copied)
    weights = dict(read_weights(copied).items())
    torch.save({k: w.clone() for k, w in weights.items()}, copied / "old.bin", _use_new_zipfile_serialization=False)
    (copied / "old.bin").replace(copied / "pytorch_model.bin")
    assert np.array_equal(logits(copied), expected)


@pytest.fixture(scope="module")
def real_shape() -> NetworkShape:
    """Vicuna 7B, CLIP ViT-L/14, SAM ViT-H: what the published checkpoint is made of."""
    clip = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14
    )
    llama = LlamaConfig(
        vocab_size=32004, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
    )
    return NetworkShape(llama, clip, SamShape(), (32000, 32001))


def test_the_real_models_names_and_sizes(real_shape):
    network = build_network(real_shape)
    sizes = {k: tuple(w.shape) for k, w in published_state(network).items()}
    expected = {
        "model.embed_tokens.weight": (32004, 4096),
        "lm_head.weight": (32004, 4096),
        "model.norm.weight": (4096,),
        "model.layers.31.self_attn.o_proj.weight": (4096, 4096),
        "model.layers.31.self_attn.rotary_emb.inv_freq": (64,),
        "model.layers.0.mlp.down_proj.weight": (4096, 11008),
        "model.mm_projector.weight": (4096, 1024),
        "model.mm_projector.bias": (4096,),
        "model.text_hidden_fcs.0.0.weight": (4096, 4096),
        "model.text_hidden_fcs.0.2.weight": (256, 4096),
        "model.visual_model.image_encoder.pos_embed": (1, 64, 64, 1280),
        "model.visual_model.image_encoder.blocks.6.attn.rel_pos_h": (27, 80),
        "model.visual_model.image_encoder.blocks.31.attn.rel_pos_w": (127, 80),
        "model.visual_model.image_encoder.blocks.0.attn.qkv.weight": (3840, 1280),
        "model.visual_model.image_encoder.blocks.0.mlp.lin1.weight": (5120, 1280),
        "model.visual_model.image_encoder.neck.2.weight": (256, 256, 3, 3),
        "model.visual_model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (2, 128),
        "model.visual_model.prompt_encoder.mask_downscaling.6.weight": (256, 16, 1, 1),
        "model.visual_model.mask_decoder.transformer.layers.1.mlp.lin1.weight": (2048, 256),
        "model.visual_model.mask_decoder.transformer.final_attn_token_to_image.q_proj.weight": (128, 256),
        "model.visual_model.mask_decoder.output_hypernetworks_mlps.3.layers.2.weight": (32, 256),
        "model.visual_model.mask_decoder.iou_prediction_head.layers.2.weight": (4, 256),
    }
    assert {k: sizes.get(k) for k in expected} == expected
    assert 6.7e9 < sum(math.prod(v) for k, v in sizes.items() if "visual_model" not in k) < 6.8e9
    assert not [k for k in sizes if "vision_tower" in k or "pixel_" in k]


@pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no published checkpoint at {REFERENCE}")
def test_the_real_models_names_are_the_published_ones(real_shape):
    def patterns(names):
        return {re.sub(r"(model.layers|blocks)\.\d+", r"\1.N", name) for name in names}

    names = published_state(build_network(real_shape)).keys()
    assert patterns(names) == patterns(read_weights(REFERENCE).keys())
    assert {int(n.split(".")[2]) for n in names if n.startswith("model.layers.")} == set(range(32))


@pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no published checkpoint at {REFERENCE}")
def test_a_published_checkpoint_comes_out_as_it_went_in(tmp_path):
    opened = open_checkpoint(REFERENCE)
    save_published(load_network(opened, torch.float32, CPU), opened, tmp_path / "out")
    before, after = read_weights(REFERENCE), read_weights(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert {f.name for f in (tmp_path / "out").iterdir()} == {f.name for f in REFERENCE.iterdir()}
    assert open_checkpoint(tmp_path / "out", opened.tower).shape.sam == opened.shape.sam


def test_memory_is_counted_before_loading(real_shape, monkeypatch):
    sizes = {k: w.numel() for k, w in build_network(real_shape).state_dict().items()}
    ways = ((torch.float32, None), (torch.bfloat16, None), (torch.bfloat16, "8bit"), (torch.bfloat16, "4bit"))
    needs = [memory_need(sizes, real_shape, dtype, load_in).total for dtype, load_in in ways]
    assert needs == sorted(needs, reverse=True)
    assert 15e9 < memory_need(sizes, real_shape, torch.bfloat16).weights < 16e9
    monkeypatch.setattr("affordagent.finetune.vlm.precision.free_memory", lambda device: 14 * 10**9)
    with pytest.raises(AffordAgentError, match=r"needs 36.7 GB .* 14.0 GB are free on cpu; .*8bit needs 11.9 GB"):
        check_memory(sizes, real_shape, torch.float32, CPU)
    check_memory(sizes, real_shape, torch.bfloat16, CPU, "8bit")
    monkeypatch.setattr("affordagent.finetune.vlm.precision.free_memory", lambda device: 8 * 10**9)
    with pytest.raises(AffordAgentError, match="even 4 bit needs 9.1 GB: run it on another machine"):
        check_memory(sizes, real_shape, torch.bfloat16, CPU)


def test_loading_refuses_what_does_not_fit(made, monkeypatch):
    monkeypatch.setattr("affordagent.finetune.vlm.precision.free_memory", lambda device: 10**6)
    with pytest.raises(AffordAgentError, match="are free on cpu"):
        VlmPredictor(*made)


def test_the_network_is_never_asked(copied, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert len(logits(copied)) == 2
    shutil.rmtree(copied.parent / "vision_tower")
    with pytest.raises(AffordAgentError, match="--vision-tower"):
        VlmPredictor(copied)


def test_command_answers_and_saves(made, tmp_path, capsys):
    from PIL import Image

    ckpt, tower = made
    pixels = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    question = "Where is [AFF]?"
    command = ["vlm", "--checkpoint", str(ckpt), "--vision-tower", str(tower), "--image", str(tmp_path / "picture.png")]
    command += ["--question", question, "--max-new-tokens", "6"]
    out, overlay = tmp_path / "sub" / "answer.npz", tmp_path / "overlay.png"
    assert main([*command, "--out", str(out), "--overlay", str(overlay), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    expected = VlmPredictor(ckpt, tower).answer(pixels, question, 6)
    saved = np.load(out)
    assert said["text"] == expected.text
    assert said["output_ids"] == expected.output_ids.tolist() == saved["output_ids"].tolist()
    assert np.array_equal(saved["mask_logits"], expected.mask_logits)
    assert np.array_equal(saved["masks"], expected.masks)
    assert saved["masks"].dtype == bool
    assert said["mask_areas_px"] == expected.masks.sum((1, 2)).tolist()
    drawn = np.array(Image.open(overlay))
    assert (drawn != pixels).any(-1)[expected.masks[0]].mean() > 0.9
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[0] == expected.text
    assert main([*command, "--checkpoint", str(tmp_path)]) == 2
    assert "has no config.json" in capsys.readouterr().err
    assert main([*command, "--image", str(tmp_path / "none.png")]) == 2
