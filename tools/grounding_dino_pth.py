"""Reads the original GroundingDINO checkpoints (`groundingdino_swint_ogc.pth`, `groundingdino_swinb_cogcoor.pth`) into
transformers' GroundingDino.

The names follow the reference code (github.com/IDEA-Research/GroundingDINO, groundingdino-py 0.4) and the hub's own
checkpoints; transformers turns the latter into its module names. The sizes are read from the weights.
"""

from __future__ import annotations

import re
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.core.errors import AffordAgentError
from affordagent.tools.local_weights import read_checkpoint

if TYPE_CHECKING:
    import torch
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    Weights = dict[str, torch.Tensor]

HEAD_WIDTH_BERT = 64  # of every BERT
POINTS = 4  # sampled by each head in each level, in both published models
# Not weights of the detector: buffers, BERT's pooler, and the labels that only the training's noise uses.
UNUSED = re.compile(r"label_enc\.|bert\.pooler\.|bert\.embeddings\.position_ids$|.*relative_position_index$")
SWIN = "model.backbone.conv_encoder.model."
LAYER = r"transformer\.encoder\.layers\.(\d+)\."
DECODER = r"transformer\.decoder\.layers\.(\d+)\."
RENAMES = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"^backbone\.0\.patch_embed\.proj\.", f"{SWIN}embeddings.patch_embeddings.projection."),
        (r"^backbone\.0\.patch_embed\.norm\.", f"{SWIN}embeddings.norm."),
        (r"^backbone\.0\.layers\.", f"{SWIN}encoder.layers."),
        (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
        (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
        (r"(blocks\.\d+)\.attn\.proj\.", r"\1.attention.output.dense."),
        (r"(blocks\.\d+)\.attn\.", r"\1.attention.self."),
        (r"(blocks\.\d+)\.mlp\.fc1\.", r"\1.intermediate.dense."),
        (r"(blocks\.\d+)\.mlp\.fc2\.", r"\1.output.dense."),
        (r"^bert\.", "model.text_backbone."),
        (r"^feat_map\.", "model.text_projection."),
        (r"^input_proj\.", "model.input_proj_vision."),
        # encoder: pictures, text, and the fusion of both
        (rf"^{LAYER}norm1\.", r"model.encoder.layers.\1.deformable_layer.self_attn_layer_norm."),
        (rf"^{LAYER}norm2\.", r"model.encoder.layers.\1.deformable_layer.final_layer_norm."),
        (rf"^{LAYER}linear(\d)\.", r"model.encoder.layers.\1.deformable_layer.fc\2."),
        (rf"^{LAYER}", r"model.encoder.layers.\1.deformable_layer."),
        (r"^transformer\.encoder\.text_layers\.(\d+)\.", r"model.encoder.layers.\1.text_enhancer_layer."),
        (r"(text_enhancer_layer)\.norm1\.", r"\1.layer_norm_before."),
        (r"(text_enhancer_layer)\.norm2\.", r"\1.layer_norm_after."),
        (r"(text_enhancer_layer)\.linear(\d)\.", r"\1.fc\2."),
        (r"^transformer\.encoder\.fusion_layers\.(\d+)\.", r"model.encoder.layers.\1.fusion_layer."),
        (r"(fusion_layer)\.gamma_v$", r"\1.vision_param"),
        (r"(fusion_layer)\.gamma_l$", r"\1.text_param"),
        (r"(fusion_layer)\.layer_norm_v\.", r"\1.layer_norm_vision."),
        (r"(fusion_layer)\.layer_norm_l\.", r"\1.layer_norm_text."),
        (r"(fusion_layer\.attn\.(?:values_|out_)?)v_proj\.", r"\1vision_proj."),
        (r"(fusion_layer\.attn\.(?:values_|out_)?)l_proj\.", r"\1text_proj."),
        # decoder and what chooses its queries
        (rf"^{DECODER}cross_attn\.", r"model.decoder.layers.\1.encoder_attn."),
        (rf"^{DECODER}norm1\.", r"model.decoder.layers.\1.encoder_attn_layer_norm."),
        (rf"^{DECODER}ca_text\.", r"model.decoder.layers.\1.encoder_attn_text."),
        (rf"^{DECODER}catext_norm\.", r"model.decoder.layers.\1.encoder_attn_text_layer_norm."),
        (rf"^{DECODER}norm2\.", r"model.decoder.layers.\1.self_attn_layer_norm."),
        (rf"^{DECODER}norm3\.", r"model.decoder.layers.\1.final_layer_norm."),
        (rf"^{DECODER}linear(\d)\.", r"model.decoder.layers.\1.fc\2."),
        (r"^transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
        (r"^transformer\.decoder\.ref_point_head\.", "model.decoder.reference_points_head."),
        (r"^transformer\.tgt_embed\.", "model.query_position_embeddings."),
        (r"^transformer\.enc_out_bbox_embed\.", "model.encoder_output_bbox_embed."),
        (r"^transformer\.", "model."),
    )
)
STAGE_NORM = re.compile(r"backbone\.0\.norm(\d)\.(weight|bias)")
JOINED = re.compile(r"(.*)\.(?:qkv\.|in_proj_)(weight|bias)")  # query, key and value in one matrix


def read_pth(path: Path) -> GroundingDinoForObjectDetection:
    """The detector with the weights of an original checkpoint, in float32 on the CPU.

    Raises:
        AffordAgentError: no such file, not such a checkpoint, or weights that are missing or unknown; the message
            names them. Files that hold more than tensors and plain containers are refused.
    """
    from transformers import GroundingDinoForObjectDetection

    mend = "groundingdino_swint_ogc.pth is among the releases of github.com/IDEA-Research/GroundingDINO"
    weights = _weights_of(read_checkpoint(path, mend), path)
    kind: Any = GroundingDinoForObjectDetection
    model, info = kind.from_pretrained(
        None, config=config_of(weights), state_dict=hub_names(weights), output_loading_info=True
    )
    wrong = {kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")}
    if any(wrong.values()):
        found = "; ".join(f"{kind}: {', '.join(keys[:5])}" for kind, keys in wrong.items() if keys)
        raise AffordAgentError(f"{path} does not hold the weights of a GroundingDINO: {found}")
    return model


def hub_names(weights: Weights) -> Weights:
    """The weights under the names of the hub's checkpoints; joined queries, keys and values are taken apart."""
    renamed: Weights = {}
    for name, value in weights.items():
        if UNUSED.match(name):
            continue
        if stage := STAGE_NORM.fullmatch(name):  # counted from 0 there and from 1, with the stem before, here
            renamed[f"{SWIN}hidden_states_norms.stage{int(stage[1]) + 1}.{stage[2]}"] = value
            continue
        new = name
        for pattern, to in RENAMES:
            new = pattern.sub(to, new)
        if joined := JOINED.fullmatch(new):
            for kind, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[f"{joined[1]}.{kind}.{joined[2]}"] = rows.clone()
        else:
            renamed[new] = value
    return renamed


def config_of(weights: Weights) -> GroundingDinoConfig:
    """The configuration that such weights belong to. Theirs are the original names."""
    from transformers import BertConfig, GroundingDinoConfig

    def size(name: str, axis: int = 0) -> int:
        return weights[name].shape[axis]

    def count(pattern: str) -> int:
        return len({found[1] for name in weights if (found := re.match(pattern, name))})

    biases = "backbone.0.layers.{}.blocks.0.attn.relative_position_bias_table"
    stages = range(count(r"backbone\.0\.layers\.(\d+)\."))
    window = (isqrt(size(biases.format(0))) + 1) // 2
    swin = dict(
        model_type="swin",
        embed_dim=size("backbone.0.patch_embed.proj.weight"),
        depths=[count(rf"backbone\.0\.layers\.{stage}\.blocks\.(\d+)\.") for stage in stages],
        num_heads=[size(biases.format(stage), 1) for stage in stages],
        window_size=window,
        image_size=32 * window,
        out_indices=[2, 3, 4],
    )
    bert = BertConfig(
        vocab_size=size("bert.embeddings.word_embeddings.weight"),
        hidden_size=(width := size("bert.embeddings.word_embeddings.weight", 1)),
        num_hidden_layers=count(r"bert\.encoder\.layer\.(\d+)\."),
        num_attention_heads=max(1, width // HEAD_WIDTH_BERT),
        intermediate_size=size("bert.encoder.layer.0.intermediate.dense.weight"),
        max_position_embeddings=size("bert.embeddings.position_embeddings.weight"),
    )
    levels = size("transformer.level_embed")
    encoder, decoder = "transformer.encoder.layers.0.", "transformer.decoder.layers.0."
    return GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        d_model=size("transformer.level_embed", 1),
        num_feature_levels=levels,
        num_queries=size("transformer.tgt_embed.weight"),
        encoder_layers=count(LAYER),
        encoder_ffn_dim=size(f"{encoder}linear1.weight"),
        encoder_attention_heads=size(f"{encoder}self_attn.attention_weights.weight") // (levels * POINTS),
        decoder_layers=count(DECODER),
        decoder_ffn_dim=size(f"{decoder}linear1.weight"),
        decoder_attention_heads=size(f"{decoder}cross_attn.attention_weights.weight") // (levels * POINTS),
    )


def _weights_of(loaded: Any, path: Path) -> Weights:
    """The state dict in what the file holds: itself, or {"model": it}, with or without "module." before its names."""
    state = loaded.get("model", loaded) if isinstance(loaded, dict) else None
    weights = {str(name).removeprefix("module."): value for name, value in state.items()} if state else {}
    needed = (
        "backbone.0.patch_embed.proj.weight",
        "bert.embeddings.word_embeddings.weight",
        "transformer.tgt_embed.weight",
    )
    lacking = [name for name in needed if name not in weights]
    if lacking:
        raise AffordAgentError(f"{path} is no checkpoint of GroundingDINO with a Swin backbone: it has no {lacking[0]}")
    return weights
