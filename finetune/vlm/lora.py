"""Which weights of the network are trained: LoRA on the language model's q and v, and four parts as they are."""

from __future__ import annotations

import re

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from torch import Tensor, nn

from affordagent.finetune.vlm.config import TrainConfig
from affordagent.finetune.vlm.network import AffordanceVlm

ADAPTED = r"model\.layers\.\d+\.self_attn\.[qv]_proj"  # of the language model; SAM and CLIP have such names too
# The published rule, by part of the name. The rest is frozen: CLIP, projector, SAM's encoders, Llama's own layers.
TRAINED = re.compile(r"lora_|^lm_head\.|^model\.embed_tokens\.|\.mask_decoder\.|\.text_hidden_fcs\.")


def add_adapters_(network: AffordanceVlm, config: TrainConfig) -> LoraModel:
    """Put LoRA layers into the network, in place, and let gradients reach what is trained and nothing else.

    What is trained becomes float32, so that small steps are not lost; the rest keeps its dtype. Returns peft's handle.
    """
    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, target_modules=ADAPTED
    )
    tuner = LoraModel(network, lora, "default")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(TRAINED.search(name) is not None)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return tuner


def trained_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of a state dict that are trained."""
    return {name: weight for name, weight in state.items() if TRAINED.search(name)}


def load_trained_(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Fill what is trained with weights that `trained_weights` gave.

    Raises:
        ValueError: names or shapes that are not the network's.
    """
    mine = dict(trained_weights(network.state_dict()))
    if mine.keys() != weights.keys():
        raise ValueError(
            f"weights of another network: {sorted(mine.keys() ^ weights.keys())[:3]} are in one of the two"
        )
    with torch.no_grad():
        for name, weight in mine.items():
            if weight.shape != weights[name].shape:
                raise ValueError(f"{name} is {tuple(weights[name].shape)}, must be {tuple(weight.shape)}")
            weight.copy_(weights[name])


def merge_adapters_(tuner: LoraModel) -> AffordanceVlm:
    """The network without LoRA layers: their product is added to the weights they stood beside."""
    network = tuner.merge_and_unload()
    if not isinstance(network, AffordanceVlm):
        raise TypeError(f"peft gave back a {type(network).__name__}")
    return network
