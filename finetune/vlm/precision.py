"""Numbers the network computes with, and what they need: dtype, device, quantised layers, memory."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from affordagent.finetune.vlm.network import AffordanceVlm, NetworkShape

LoadIn = Literal["8bit", "4bit"]
DTYPES = {
    **{"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16},
    **{"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16},
}

QUANTIZED = re.compile(r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight")
WEIGHT_BYTES = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}  # 4 bit: nf4 with one float32 for every 64 weights
ATTENTION_COPIES = 3.5  # of SAM's largest attention matrix that live at once, measured


@dataclass(frozen=True)
class MemoryNeed:
    """weights: bytes for good; working: bytes while a picture is looked at and a long answer is read."""

    weights: int
    working: int

    @property
    def total(self) -> int:
        return self.weights + self.working


def memory_need(
    sizes: dict[str, int], shape: NetworkShape, dtype: torch.dtype, load_in: LoadIn | None = None
) -> MemoryNeed:
    """Memory that the network takes. sizes: numbers in each weight, by its name in the network."""
    quantized = sum(n for name, n in sizes.items() if load_in and QUANTIZED.fullmatch(name))
    plain = sum(sizes.values()) - quantized
    weights = plain * dtype.itemsize + (quantized * WEIGHT_BYTES[load_in] if load_in else 0)
    llama, sam = shape.llama, shape.sam
    attention = sam.heads * sam.grid**4 * ATTENTION_COPIES
    heads, head_width = cast(int, llama.num_key_value_heads), cast(int, llama.head_dim)
    cache = 2 * llama.num_hidden_layers * heads * head_width * llama.max_position_embeddings
    return MemoryNeed(round(weights), round((attention + cache) * dtype.itemsize))


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the GPU, or in the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    if table.is_file():
        return 1024 * int(re.findall(r"MemAvailable:\s*(\d+) kB", table.read_text())[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(
    sizes: dict[str, int], shape: NetworkShape, dtype: torch.dtype, device: torch.device, load_in: LoadIn | None = None
) -> None:
    """Nothing when the network fits.

    Raises:
        AffordAgentError: it does not; the message says what is needed, what is free and which precision would fit.
    """
    need, free = memory_need(sizes, shape, dtype, load_in), free_memory(device)
    if need.total <= free:
        return
    options: list[tuple[str, torch.dtype, LoadIn | None]] = [
        ("dtype bf16", torch.bfloat16, None),
        ("dtype bf16 with load_in 8bit", torch.bfloat16, "8bit"),
        ("dtype bf16 with load_in 4bit", torch.bfloat16, "4bit"),
    ]
    smaller = [(name, memory_need(sizes, shape, low, way).total) for name, low, way in options]
    fits = [f"{name} needs {_gb(total)}" for name, total in smaller if total <= min(free, need.total - 1)]
    least = min(total for _, total in smaller)
    raise AffordAgentError(
        f"the model needs {_gb(need.total)} ({_gb(need.weights)} of weights as {_name(dtype, load_in)}, "
        f"{_gb(need.working)} to work), {_gb(free)} are free on {device}; "
        + ("; ".join(fits) or f"even 4 bit needs {_gb(least)}: run it on another machine with `affordagent serve-vlm`")
    )


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _name(dtype: torch.dtype, load_in: LoadIn | None) -> str:
    return load_in or str(dtype).removeprefix("torch.")


def choose_device(device: str) -> torch.device:
    """ "auto" = the first GPU when there is one.

    Raises:
        AffordAgentError: an unknown device, or one that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise AffordAgentError(f"device {device!r} is not known; use auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise AffordAgentError(f"device {device!r} is not there ({torch.cuda.device_count()} GPUs); use cpu")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" = bf16 on a GPU, float32 on a CPU.

    Raises:
        AffordAgentError: an unknown name.
    """
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in DTYPES:
        raise AffordAgentError(f"dtype {dtype!r} is not known; use auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def quantize_(
    network: AffordanceVlm, state: dict[str, Tensor], dtype: torch.dtype, device: torch.device, load_in: LoadIn
) -> dict[str, Tensor]:
    """Put bitsandbytes layers, filled from `state`, in place of the language model's linear layers, one at a time.

    lm_head, projector, text_hidden_fcs, SAM and CLIP keep their precision: masks hang on small differences there.
    Returns what is left of `state`.

    Raises:
        AffordAgentError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise AffordAgentError(f"load_in {load_in} needs bitsandbytes: pip install 'affordagent[quantized]'")
    rest = dict(state)
    for key in [name for name in state if QUANTIZED.fullmatch(name)]:
        path, _, name = key.removesuffix(".weight").rpartition(".")
        parent = network.get_submodule(path)
        layer = _quantized(rest.pop(key).to(dtype, copy=True), dtype, load_in)
        setattr(parent, name, layer.to(device))
    return rest


def _quantized(weight: Tensor, dtype: torch.dtype, load_in: LoadIn) -> nn.Module:
    import bitsandbytes as bnb

    rows, columns = weight.shape
    sizes: dict[str, Any] = {"input_features": columns, "output_features": rows, "bias": False, "device": "meta"}
    layer: nn.Module
    if load_in == "8bit":
        layer = bnb.nn.Linear8bitLt(**sizes, has_fp16_weights=False, threshold=6.0)
        layer.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        layer = bnb.nn.Linear4bit(**sizes, compute_dtype=dtype, quant_type="nf4")
        layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    return layer
