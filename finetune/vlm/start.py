"""What training begins with when there is no AffordanceVLM yet: LLaVA and SAM, put together as the reference does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.checkpoint import IGNORED, SAM
from affordagent.finetune.vlm.tokens import AFF, IMAGE_END, IMAGE_START, SEG, TOKENIZER_FILES, Tokens, read_json
from affordagent.finetune.vlm.weights import SAFE, read_file, read_weights, write_weights

EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")


def put_together(llava: Path, sam: Path, out: Path, *, seed: int = 0) -> None:
    """Write a folder in the published format (weights as safetensors) that is to be trained: it does not know [SEG] and
    [AFF] yet.

    llava: folder of a LLaVA 1 (config.json, tokenizer.model, weights with the projector), e.g. LLaVA-Lightning-7B.
    sam: the file of Segment Anything, e.g. sam_vit_h_4b8939.pth. The tokens [SEG], [AFF], <im_start>, <im_end> are
    added in this order behind the vocabulary where they are missing; their rows are drawn from a normal distribution,
    the mask prompt's layers from torch's default, both by `seed`.

    Raises:
        AffordAgentError: a file is missing or broken, the projector is not there, or `out` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise AffordAgentError(f"{out} is not empty; name a new folder to save to")
    config = read_json(llava / "config.json")
    weights = {k: w for k, w in read_weights(llava).items() if not any(i in k for i in IGNORED)}
    missing = {*EMBEDDINGS, "model.mm_projector.weight"} - weights.keys()
    if missing:
        raise AffordAgentError(f"{llava} lacks {', '.join(sorted(missing))}; --llava must be a whole LLaVA 1")
    parts = {f"{SAM}{k}": w for k, w in read_file(sam).items()}
    if f"{SAM}image_encoder.neck.0.weight" not in parts:
        raise AffordAgentError(f"{sam} is not a Segment Anything checkpoint; take sam_vit_h_4b8939.pth")
    out.mkdir(parents=True, exist_ok=True)
    rows = _write_tokenizer(llava, out)
    prompt_width = parts[f"{SAM}image_encoder.neck.0.weight"].shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spread = float(config.get("initializer_range", 0.02))
        weights |= {name: _resized(weights[name], rows, spread) for name in EMBEDDINGS}
        weights |= _mask_prompt(weights[EMBEDDINGS[0]].shape[1], prompt_width)
    (out / "config.json").write_text(json.dumps(config | _extra(config, rows, prompt_width), indent=2, sort_keys=True))
    write_weights(weights | parts, out, SAFE)


def _write_tokenizer(llava: Path, out: Path) -> int:
    """Copy the tokenizer with the four tokens added; returns the number of tokens."""
    for name in TOKENIZER_FILES:
        if (llava / name).is_file():
            shutil.copyfile(llava / name, out / name)
    tokens = Tokens.load(llava, complete=False)
    added = dict(tokens.added)
    for token in (SEG, AFF, IMAGE_START, IMAGE_END):
        added.setdefault(token, len(Tokens(tokens.model, added)))
    (out / "added_tokens.json").write_text(json.dumps(added, indent=2))
    return len(Tokens.load(out))


def _resized(table: Tensor, rows: int, spread: float) -> Tensor:
    """The first rows of a table, with new ones below where there are too few."""
    new = torch.normal(0.0, spread, (max(0, rows - len(table)), table.shape[1]))
    return torch.cat([table[:rows], new.to(table.dtype)])


def _mask_prompt(width: int, prompt_width: int) -> dict[str, Tensor]:
    layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, prompt_width))
    return {f"model.text_hidden_fcs.0.{name}": weight for name, weight in layers.state_dict().items()}


def _extra(config: dict[str, Any], rows: int, prompt_width: int) -> dict[str, Any]:
    tower = config.get("mm_vision_tower", "openai/clip-vit-large-patch14")
    return {
        **{"architectures": ["AffordanceVLMForCausalLM"], "model_type": "llava", "vocab_size": rows},
        **{"train_mask_decoder": True, "out_dim": prompt_width, "vision_tower": tower, "mm_vision_tower": tower},
        **{"mm_use_im_start_end": True, "use_cache": False, "pad_token_id": 0},
        **{"mm_vision_select_layer": config.get("mm_vision_select_layer", -2), "mm_vision_select_feature": "patch"},
    }
