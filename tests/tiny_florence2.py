"""A tiny random Florence-2 checkpoint in transformers' format, with a byte-wise tokenizer and its places."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BartConfig,
    BartTokenizer,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Florence2VisionConfig,
)

SIDE_PX = 64
MARKS = ["<od>", "</od>", "<poly>", "</poly>", "<sep>"]
ANSWERS = ("phrase_grounding", "pure_text", "description_with_bboxes", "polygons", "bboxes")


def write_florence2(folder: Path) -> Path:
    torch.manual_seed(0)
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet())])}
    tokenizer = BartTokenizer(vocab=vocabulary, merges=[], model_max_length=1024, image_token="<image>")
    tokenizer.add_tokens([AddedToken(token, special=False) for token in [f"<loc_{i}>" for i in range(1000)] + MARKS])
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    vision = Florence2VisionConfig(
        depths=[1, 1, 1, 1],
        embed_dim=[8, 8, 16, 16],
        num_heads=[1, 1, 2, 2],
        num_groups=[1, 1, 2, 2],
        window_size=2,
        projection_dim=16,
        max_position_embeddings=8,
    )
    text = BartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
    )
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=tokenizer.image_token_id)
    Florence2ForConditionalGeneration(config).save_pretrained(folder)
    places = (SIDE_PX // 32) ** 2
    pictures = CLIPImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX}, do_center_crop=False)
    pictures.image_seq_length = places + 1  # the hub's: 24 x 24 places and their mean
    Florence2Processor(pictures, tokenizer, post_processor_config={name: {} for name in ANSWERS}).save_pretrained(
        folder
    )
    return folder
