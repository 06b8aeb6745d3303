"""A checkpoint in the published format with random weights and a CLIP tower, small enough to be made on the spot. It
has learned nothing; it shows that loading, asking and training work before 15 GB are downloaded."""

from __future__ import annotations

import io
import json
from pathlib import Path

import sentencepiece
import torch
from transformers import CLIPVisionConfig, LlamaConfig

from affordagent.finetune.vlm import conversation
from affordagent.finetune.vlm.network import AffordanceVlm, NetworkShape, SamShape
from affordagent.finetune.vlm.weights import TORCH, write_weights

ADDED = ("[SEG]", "[AFF]", "<im_start>", "<im_end>")
CORPUS = [
    conversation.SYSTEM,
    conversation.PREFIX,
    "USER: What is the affordance map of hammer in this image? ASSISTANT: It is [AFF].",
    "Can you segment the mug, the pan and the knife? Sure, the part to hold is its handle.",
    "What tool do you see?\nI see a kettle.",
]


def write_tiny_vlm(
    folder: Path,
    *,
    seed: int = 0,
    added: tuple[str, ...] = ADDED,
    max_shard_bytes: int = 10**9,
    global_blocks: tuple[int, ...] = (1,),
) -> tuple[Path, Path]:
    """Write `folder/ckpt` and `folder/vision_tower`; returns both. Random weights: 2 layers of 32, SAM 16 wide.

    global_blocks: () makes SAM ten times as fast.
    """
    ckpt, tower = folder / "ckpt", folder / "vision_tower"
    ckpt.mkdir(parents=True)
    tower.mkdir()
    rows = _write_tokenizer(ckpt, added)
    torch.manual_seed(seed)
    network = AffordanceVlm(_shape(rows, global_blocks))
    _spread(network)
    _write_json(tower / "config.json", json.loads(network.shape.clip.to_json_string()))
    state = network.state_dict()
    prefix = "" if any(k.startswith("vision_tower.vision_model.") for k in state) else "vision_model."
    clip = {prefix + k.removeprefix("vision_tower."): w for k, w in state.items() if k.startswith("vision_tower.")}
    write_weights(clip, tower, TORCH)
    frequencies = {
        f"model.layers.{n}.self_attn.rotary_emb.inv_freq": network.model.rotary_emb.inv_freq.clone() for n in range(2)
    }
    rest = {k: w for k, w in state.items() if not k.startswith("vision_tower.")}
    write_weights(rest | frequencies, ckpt, TORCH, max_shard_bytes)
    _write_json(ckpt / "config.json", _config(rows))
    return ckpt, tower


def _shape(rows: int, global_blocks: tuple[int, ...]) -> NetworkShape:
    llama = LlamaConfig(
        vocab_size=rows,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=0,
    )
    clip = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14
    )
    sam = SamShape(
        width=16, depth=2, heads=1, mlp_width=32, global_blocks=global_blocks, prompt_width=32, mask_channels=8,
        decoder_mlp_width=48, decoder_inner_width=16, iou_width=16,
    )  # fmt: skip
    return NetworkShape(llama, clip, sam, (rows - 4, rows - 3))


def _spread(network: AffordanceVlm) -> None:
    """Larger random weights where the usual ones give nearly the same mask and word for everything."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "text_hidden_fcs" in name or "hypernetworks" in name or "embed_tokens" in name or "lm_head" in name:
                weight.normal_(0, 0.3)
            elif weight.abs().max() == 0 and "rel_pos" in name:
                weight.normal_(0, 0.1)


def _write_tokenizer(folder: Path, added: tuple[str, ...]) -> int:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, model_type="bpe", vocab_size=400, hard_vocab_limit=False,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    words = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).vocab_size()
    _write_json(folder / "added_tokens.json", {token: words + i for i, token in enumerate(added)})
    _write_json(folder / "tokenizer_config.json", {"legacy": True, "tokenizer_class": "LlamaTokenizer"})
    return words + len(ADDED)


def _config(rows: int) -> dict:
    return {
        **{"architectures": ["AffordanceVLMForCausalLM"], "model_type": "llava", "use_cache": False, "out_dim": 32},
        **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"rms_norm_eps": 1e-6, "vocab_size": rows, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        **{"vision_tower": "openai/clip-vit-large-patch14", "mm_vision_select_layer": -2, "torch_dtype": "float32"},
    }


def _write_json(file: Path, value: dict) -> None:
    file.write_text(json.dumps(value, indent=2))
