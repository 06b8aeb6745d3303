"""What the published training began with, as one folder in the published format: a LLaVA and a SAM put together.

From LLaVA (v1, one linear projector, e.g. LLaVA-Lightning-7B-v1-1): language model, projector, tokenizer. From SAM's
own file (sam_vit_h_4b8939.pth): encoder, prompt encoder, mask decoder. New, drawn from a seed: the rows of the added
tokens, normal with LLaVA's initializer_range, and the projection from a hidden state to SAM's prompt.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.checkpoint import IGNORED
from affordagent.finetune.vlm.precision import DTYPES
from affordagent.finetune.vlm.tokens import AFF, IMAGE_END, IMAGE_START, SEG, TOKENIZER_FILES, read_json
from affordagent.finetune.vlm.weights import SAFE, read_weights, write_weights

ADDED = (SEG, AFF, IMAGE_START, IMAGE_END)  # in the order of the published script
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
PROJECTOR = "model.mm_projector.weight"
NECK = "image_encoder.neck.0.weight"  # its rows are as many as a prompt is wide


def make_base(llava: Path, sam: Path, out: Path, *, seed: int = 0, dtype: str = "bf16") -> None:
    """Write `out`, a new folder that `train-vlm --base` takes. The CLIP tower stays a folder of its own.

    Raises:
        AffordAgentError: a file is missing or of another kind, or `out` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise AffordAgentError(f"{out} is not empty; name a new folder")
    config, words = read_json(llava / "config.json"), _words(llava)
    added = _added(llava, words)
    weights = {k: w for k, w in read_weights(llava).items() if not any(part in k for part in IGNORED)}
    missing = [name for name in (*EMBEDDINGS, PROJECTOR) if name not in weights]
    if missing:
        raise AffordAgentError(f"{llava} lacks {', '.join(missing)}: a LLaVA v1 with one linear projector is needed")
    sam_weights = _read_sam(sam)
    generator = torch.Generator().manual_seed(seed)
    rows = max(words, *(i + 1 for i in added.values()))
    spread = float(config.get("initializer_range", 0.02))
    for name in EMBEDDINGS:
        weights[name] = _resized(weights[name], rows, spread, generator)
    prompt_width = len(sam_weights[NECK])
    weights |= _projection(weights[PROJECTOR].shape[0], prompt_width, generator)
    weights |= {f"model.visual_model.{name}": weight for name, weight in sam_weights.items()}

    out.mkdir(parents=True, exist_ok=True)
    write_weights({name: weight.to(DTYPES[dtype]) for name, weight in weights.items()}, out, SAFE)
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (llava / name).is_file():
            shutil.copyfile(llava / name, out / name)
    _write(out / "added_tokens.json", added)
    facts = {"train_mask_decoder": True, "out_dim": prompt_width, "vocab_size": rows, "use_cache": False}
    kind = {"architectures": ["AffordanceVLMForCausalLM"], "model_type": "llava"}
    tower = config.get("mm_vision_tower", "openai/clip-vit-large-patch14")
    torch_dtype = str(DTYPES[dtype]).removeprefix("torch.")
    _write(out / "config.json", config | facts | kind | {"vision_tower": tower, "torch_dtype": torch_dtype})


def _words(llava: Path) -> int:
    """How many the tokenizer has without added ones."""
    file = llava / "tokenizer.model"
    if not file.is_file():
        raise AffordAgentError(f"{llava} has no tokenizer.model; give the folder of a LLaVA")
    return sentencepiece.SentencePieceProcessor(model_file=str(file)).vocab_size()


def _added(llava: Path, words: int) -> dict[str, int]:
    """LLaVA's added tokens, and behind them those of ADDED that it lacks."""
    file = llava / "added_tokens.json"
    added = {str(token): int(i) for token, i in read_json(file).items()} if file.is_file() else {}
    for token in ADDED:
        added.setdefault(token, max([words - 1, *added.values()]) + 1)
    return added


def _resized(weight: Tensor, rows: int, spread: float, generator: torch.Generator) -> Tensor:
    """(rows, hidden): the first ones as they are, new ones drawn."""
    new = torch.empty(max(0, rows - len(weight)), weight.shape[1]).normal_(0, spread, generator=generator)
    return torch.cat([weight[:rows].float(), new])


def _projection(hidden: int, prompt: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Two linear layers with torch's usual first values: uniform within 1 / sqrt(inputs)."""
    out = {}
    for number, width in ((0, hidden), (2, prompt)):
        for part, shape in (("weight", (width, hidden)), ("bias", (width,))):
            values = torch.empty(shape).uniform_(-(hidden**-0.5), hidden**-0.5, generator=generator)
            out[f"model.text_hidden_fcs.0.{number}.{part}"] = values
    return out


def _read_sam(file: Path) -> dict[str, Tensor]:
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise AffordAgentError(f"{file} is not a SAM checkpoint that can be read: {error}") from error
    if not isinstance(weights, dict) or NECK not in weights:
        raise AffordAgentError(f"{file} is not SAM's own file (sam_vit_h_4b8939.pth): it has no {NECK}")
    return {name: weight for name, weight in weights.items() if not name.startswith("pixel_")}


def _write(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
