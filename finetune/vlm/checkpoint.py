"""The published folder format of AffordanceVLM, in and out.

A folder holds config.json (`model_type` "llava", which is not transformers' own Llava), the tokenizer's files and the
weights of everything but the CLIP tower, which is a folder of its own. config.json says nothing about SAM, CLIP or the
ids of [SEG] and [AFF]: sizes are read off the weights, ids off the tokenizer. Nothing here asks the network.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.network import DECODER_HEADS, PATCHES, AffordanceVlm, NetworkShape, SamShape
from affordagent.finetune.vlm.precision import LoadIn, check_memory, quantize_
from affordagent.finetune.vlm.tokens import TOKENIZER_FILES, Tokens, read_json
from affordagent.finetune.vlm.weights import SAFE, SHARD_BYTES, TORCH, read_weights, write_weights

SAM = "model.visual_model."
ENCODER, DECODER, PROMPTS = f"{SAM}image_encoder.", f"{SAM}mask_decoder.", f"{SAM}prompt_encoder."
IGNORED = ("rotary_emb.inv_freq", "vision_tower", "visual_model.pixel_mean", "visual_model.pixel_std")
LLAMA_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps")
LLAMA_OPTIONS = (
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "pad_token_id"),
    *("bos_token_id", "eos_token_id", "rope_theta", "rope_scaling", "attention_bias", "head_dim"),
)


@dataclass(frozen=True)
class Checkpoint:
    """An opened, checked folder. weights, tower_weights: mapped from disk, under the network's names."""

    folder: Path
    tower: Path
    config: dict[str, Any]
    tokens: Tokens
    shape: NetworkShape
    weights: dict[str, Tensor]
    tower_weights: dict[str, Tensor]


def open_checkpoint(folder: Path, vision_tower: Path | None = None) -> Checkpoint:
    """Open a published checkpoint without reading its bytes.

    vision_tower: folder of the CLIP model (a whole CLIP or its vision half); None = the local folder that config.json
    names, or `vision_tower` beside or inside the checkpoint.

    Raises:
        AffordAgentError: something is missing or does not fit; the message says what and the mend.
    """
    if not (folder / "config.json").is_file():
        raise AffordAgentError(f"{folder} is not a checkpoint folder: it has no config.json")
    config = read_json(folder / "config.json")
    tokens = Tokens.load(folder)
    tower = find_tower(folder, config, vision_tower)
    clip, tower_weights = _open_tower(tower)
    weights = {k: w for k, w in read_weights(folder).items() if not any(i in k for i in IGNORED)}
    shape = NetworkShape(
        llama=_llama_config(config, folder, vocabulary=_rows(weights, "model.embed_tokens.weight")),
        clip=clip,
        sam=sam_shape(weights),
        mask_ids=tokens.mask_ids,
        clip_layer=int(config.get("mm_vision_select_layer", -2)),
    )
    checkpoint = Checkpoint(folder, tower, config, tokens, shape, weights, tower_weights)
    _check(checkpoint)
    return checkpoint


def find_tower(folder: Path, config: dict[str, Any], given: Path | None) -> Path:
    """The CLIP folder on this disk; config.json usually names a model of the hub, which is never asked for.

    Raises:
        AffordAgentError: it is not there.
    """
    named = str(config.get("vision_tower") or config.get("mm_vision_tower") or "openai/clip-vit-large-patch14")
    places = (
        [given] if given else [Path(named), folder / named, folder / "vision_tower", folder.parent / "vision_tower"]
    )
    for place in places:
        if (place / "config.json").is_file():
            return place
    raise AffordAgentError(
        f"the CLIP vision tower ({named}) is not in {' or '.join(map(str, places))}: its weights are not part of the "
        "checkpoint; download that model and give its folder with --vision-tower"
    )


def build_network(shape: NetworkShape) -> AffordanceVlm:
    """The network without weights: parameters on torch's `meta` device, constants in memory."""
    with torch.device("meta"):
        network = AffordanceVlm(shape)
    network.model.rotary_emb = LlamaRotaryEmbedding(shape.llama)  # float32 always, as in the reference
    embeddings = getattr(network.vision_tower, "vision_model", network.vision_tower).embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions)[None]
    sam = network.model.visual_model
    sam.pixel_mean, sam.pixel_std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)  # pictures are normalised by `pictures`
    return network.eval()


def load_network(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, load_in: LoadIn | None = None
) -> AffordanceVlm:
    """The network with its weights, in eval mode. load_in: quantise the language model's linear layers.

    Raises:
        AffordAgentError: too little memory, or load_in without bitsandbytes.
    """
    state = checkpoint.weights | checkpoint.tower_weights
    check_memory({name: w.numel() for name, w in state.items()}, checkpoint.shape, dtype, device, load_in)
    network = build_network(checkpoint.shape)
    if load_in:
        state = quantize_(network, state, dtype, device, load_in)
    state = {name: weight.to(device, dtype, copy=True) for name, weight in state.items()}
    network.load_state_dict(state, assign=True, strict=load_in is None)
    return network.to(device)


def published_state(network: AffordanceVlm) -> dict[str, Tensor]:
    """The state dict under the published names: without the CLIP tower, with the `inv_freq` buffers that the
    reference's version of Llama keeps in every layer."""
    state = {k: w for k, w in network.state_dict().items() if not k.startswith("vision_tower.")}
    frequencies = network.model.rotary_emb.inv_freq.to(network.dtype)
    for number in range(network.shape.llama.num_hidden_layers):
        state[f"model.layers.{number}.self_attn.rotary_emb.inv_freq"] = frequencies
    return state


def save_published(
    network: AffordanceVlm, source: Checkpoint, folder: Path, max_shard_bytes: int = SHARD_BYTES
) -> None:
    """Write the network to a new folder in the published format, with source's config and tokenizer: the reference's
    `from_pretrained` and `open_checkpoint` both read it.

    Raises:
        AffordAgentError: the folder is not empty, or the network is quantised.
    """
    _start_folder(network, source, folder)
    write_weights(published_state(network), folder, TORCH, max_shard_bytes)


def save_safetensors(
    network: AffordanceVlm, source: Checkpoint, folder: Path, max_shard_bytes: int = SHARD_BYTES
) -> None:
    """The same with the weights as safetensors, which hold no code and load faster; `open_checkpoint` reads it.

    Raises:
        AffordAgentError: as for `save_published`.
    """
    _start_folder(network, source, folder)
    state = {k: w for k, w in published_state(network).items() if "inv_freq" not in k}
    write_weights(state, folder, SAFE, max_shard_bytes)


def _start_folder(network: AffordanceVlm, source: Checkpoint, folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise AffordAgentError(f"{folder} is not empty; name a new folder to save to")
    linear = network.get_submodule("model.layers.0.self_attn.q_proj")
    if type(linear) is not torch.nn.Linear:
        raise AffordAgentError(
            f"a network with {type(linear).__name__} layers cannot be saved; merge adapters, load without load_in"
        )
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"vocab_size": network.shape.llama.vocab_size, "torch_dtype": str(network.dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(source.config | sizes, indent=2, sort_keys=True) + "\n")
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)


def sam_shape(weights: dict[str, Tensor]) -> SamShape:
    """SAM's sizes from the shapes of its weights.

    Raises:
        AffordAgentError: a weight it needs is not there.
    """
    table = _tensor(weights, f"{ENCODER}pos_embed")
    blocks = _count(weights, f"{ENCODER}blocks.")
    spans = [_rows(weights, f"{ENCODER}blocks.{i}.attn.rel_pos_h") for i in range(blocks)]
    grid, width = table.shape[1], table.shape[3]
    everywhere = tuple(i for i, span in enumerate(spans) if span == 2 * grid - 1)
    return SamShape(
        width=width,
        depth=blocks,
        heads=width // _tensor(weights, f"{ENCODER}blocks.0.attn.rel_pos_h").shape[1],
        mlp_width=_rows(weights, f"{ENCODER}blocks.0.mlp.lin1.weight"),
        global_blocks=everywhere,
        window=(min(spans) + 1) // 2 if len(everywhere) < blocks else 0,
        patch_px=_tensor(weights, f"{ENCODER}patch_embed.proj.weight").shape[-1],
        grid=grid,
        prompt_width=_rows(weights, f"{ENCODER}neck.0.weight"),
        mask_channels=_rows(weights, f"{PROMPTS}mask_downscaling.3.weight"),
        decoder_depth=_count(weights, f"{DECODER}transformer.layers."),
        decoder_mlp_width=_rows(weights, f"{DECODER}transformer.layers.0.mlp.lin1.weight"),
        decoder_inner_width=_rows(weights, f"{DECODER}transformer.final_attn_token_to_image.q_proj.weight"),
        candidates=_rows(weights, f"{DECODER}mask_tokens.weight") - 1,
        iou_width=_rows(weights, f"{DECODER}iou_prediction_head.layers.0.weight"),
        iou_depth=_count(weights, f"{DECODER}iou_prediction_head.layers."),
    )


def _llama_config(config: dict[str, Any], folder: Path, vocabulary: int) -> LlamaConfig:
    missing = [key for key in LLAMA_KEYS if key not in config]
    if missing:
        raise AffordAgentError(f"{folder}/config.json lacks {', '.join(missing)}; it is not a published AffordanceVLM")
    given = {key: config[key] for key in (*LLAMA_KEYS, *LLAMA_OPTIONS) if config.get(key) is not None}
    return LlamaConfig(**given, vocab_size=vocabulary, tie_word_embeddings=False)


def _open_tower(tower: Path) -> tuple[CLIPVisionConfig, dict[str, Tensor]]:
    values = read_json(tower / "config.json")
    values = values.get("vision_config") or values
    names = CLIPVisionConfig().to_dict().keys() - {"model_type", "architectures", "transformers_version"}
    clip = CLIPVisionConfig(**{k: v for k, v in values.items() if k in names})
    with torch.device("meta"):
        wanted = _tower_names(clip)
    weights = {
        k.removeprefix("vision_model."): w for k, w in read_weights(tower).items() if k.startswith("vision_model.")
    }
    return clip, {full: weights[short] for short, full in wanted.items() if short in weights}


def _tower_names(clip: CLIPVisionConfig) -> dict[str, str]:
    """Name in the file (behind "vision_model.") -> name in the network; versions of transformers differ."""
    from transformers import CLIPVisionModel

    return {k.removeprefix("vision_model."): f"vision_tower.{k}" for k in CLIPVisionModel(clip).state_dict()}


def _check(checkpoint: Checkpoint) -> None:
    """Everything fits together: said in the words of the person's files, before any weight is copied."""
    shape, weights, folder = checkpoint.shape, checkpoint.weights, checkpoint.folder
    image_px, patch_px = cast(int, shape.clip.image_size), cast(int, shape.clip.patch_size)
    patches = (image_px // patch_px) ** 2
    if patches != PATCHES:
        raise AffordAgentError(
            f"the tower {checkpoint.tower} gives {patches} patches (image_size {image_px}, patch_size {patch_px}), "
            f"the model needs {PATCHES}; --vision-tower must be CLIP ViT-L/14 at 224 px"
        )
    projector = _tensor(weights, "model.mm_projector.weight")
    if projector.shape[1] != shape.clip.hidden_size:
        raise AffordAgentError(
            f"the tower {checkpoint.tower} is {shape.clip.hidden_size} wide, the checkpoint's projector takes "
            f"{projector.shape[1]}; give the tower it was trained with as --vision-tower"
        )
    if len(checkpoint.tokens) > shape.llama.vocab_size:
        raise AffordAgentError(
            f"the tokenizer of {folder} has {len(checkpoint.tokens)} tokens, the weights {shape.llama.vocab_size}; "
            "tokenizer and weights are not of the same checkpoint"
        )
    if shape.sam.prompt_width % DECODER_HEADS:
        raise AffordAgentError(f"SAM's prompt width {shape.sam.prompt_width} is not a multiple of {DECODER_HEADS}")
    feature = checkpoint.config.get("mm_vision_select_feature", "patch")
    if feature != "patch":
        raise AffordAgentError(
            f"{folder}/config.json wants mm_vision_select_feature {feature!r}; only 'patch' is known"
        )
    _check_names(checkpoint)


def _check_names(checkpoint: Checkpoint) -> None:
    wanted = {name: tuple(w.shape) for name, w in build_network(checkpoint.shape).state_dict().items()}
    found = {name: tuple(w.shape) for name, w in (checkpoint.weights | checkpoint.tower_weights).items()}
    missing, spare = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    for names, where in (
        ([n for n in missing if n.startswith("vision_tower.")], f"the tower {checkpoint.tower}"),
        ([n for n in missing if not n.startswith("vision_tower.")], str(checkpoint.folder)),
    ):
        if names:
            raise AffordAgentError(f"{where} lacks {_some(names)}; the download is not complete or not of this model")
    if any("lora_" in name for name in spare):
        raise AffordAgentError(f"{checkpoint.folder} holds LoRA weights ({_some(spare)}); merge them first")
    if spare:
        raise AffordAgentError(f"{checkpoint.folder} holds weights that the model does not have: {_some(spare)}")
    for name, size in wanted.items():
        if found[name] != size:
            raise AffordAgentError(
                f"{name} is {found[name]} in the weights, {size} by config.json and the other weights; "
                f"config.json and weights of {checkpoint.folder} do not belong together"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _tensor(weights: dict[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise AffordAgentError(f"the weights lack {name}: this is not an AffordanceVLM checkpoint, or not all of it")
    return weights[name]


def _rows(weights: dict[str, Tensor], name: str) -> int:
    return _tensor(weights, name).shape[0]


def _count(weights: dict[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})
