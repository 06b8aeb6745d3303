"""Numbers the network computes with, and what they need: dtype, device, quantised layers, memory."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from affordagent.finetune.vlm.network import AffordanceVlm

LoadIn = Literal["8bit", "4bit"]
DTYPES = {
    **{"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16},
    **{"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16},
}


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
    for path, module in list(network.model.layers.named_modules()):
        if isinstance(module, nn.Linear):
            weight = rest.pop(f"model.layers.{path}.weight")
            parent, _, name = path.rpartition(".")
            layer = _quantized(module, weight.to(dtype, copy=True), dtype, load_in)
            setattr(network.model.layers.get_submodule(parent), name, layer.to(device))
    return rest


def _quantized(linear: nn.Linear, weight: Tensor, dtype: torch.dtype, load_in: LoadIn) -> nn.Module:
    import bitsandbytes as bnb

    sizes: dict[str, Any] = {
        "input_features": linear.in_features,
        "output_features": linear.out_features,
        "bias": False,
    }
    if load_in == "8bit":
        layer = bnb.nn.Linear8bitLt(**sizes, has_fp16_weights=False, threshold=6.0, device="meta")
        layer.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        layer = bnb.nn.Linear4bit(**sizes, compute_dtype=dtype, quant_type="nf4", device="meta")
        layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    return layer
