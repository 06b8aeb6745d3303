"""From a training run to a model of its own: adapters merged, in the published format or with safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.checkpoint import (
    Checkpoint,
    load_network,
    open_checkpoint,
    save_published,
    save_safetensors,
)
from affordagent.finetune.vlm.config import TrainConfig
from affordagent.finetune.vlm.lora import add_adapters_, load_trained_, merge_adapters_
from affordagent.finetune.vlm.network import AffordanceVlm
from affordagent.finetune.vlm.precision import DTYPES
from affordagent.finetune.vlm.run_folder import PATHS, RunFolder

Format = Literal["published", "safetensors"]


def merged_network(
    run: Path, base: Path | None = None, vision_tower: Path | None = None, dtype: str = "auto"
) -> tuple[AffordanceVlm, Checkpoint, str]:
    """The trained network, whole, on the CPU in eval mode; what it began with; and which weights were taken.

    base, vision_tower: where they are now; None = where they were in training. dtype: of the result; auto = what the
    base's config.json says, else bf16.

    Raises:
        AffordAgentError: no run, no checkpoint yet, another base, or an unknown dtype.
    """
    folder = RunFolder(run)
    facts = folder.facts()
    weights, origin = folder.weights_to_export()
    opened = open_checkpoint(base or Path(facts[PATHS]["base"]), vision_tower or Path(facts[PATHS]["vision_tower"]))
    name = str(opened.config.get("torch_dtype", "bfloat16")) if dtype == "auto" else dtype
    if name not in DTYPES:
        raise AffordAgentError(f"dtype {name!r} is not known; use auto, {', '.join(DTYPES)}")
    network = load_network(opened, DTYPES[name], torch.device("cpu"))
    tuner = add_adapters_(network, TrainConfig(**facts["config"]))
    try:
        load_trained_(network, weights)
    except ValueError as error:
        raise AffordAgentError(f"{run}/{origin} does not fit the model in {opened.folder}: {error}") from error
    merged = merge_adapters_(tuner).eval().requires_grad_(False)
    for parameter in merged.parameters():  # not the buffers: the position encodings are float32 always
        parameter.data = parameter.data.to(DTYPES[name])
    return merged, opened, origin


def export(
    run: Path,
    out: Path,
    form: Format,
    *,
    base: Path | None = None,
    vision_tower: Path | None = None,
    dtype: str = "auto",
) -> str:
    """Write the merged network of a run to a new folder, with the tokenizer's files; says which weights it took.

    published: as the published model is laid out (pytorch_model.bin); safetensors: the same folder without pickles.
    `open_checkpoint`, and so every command that takes a model, reads both; the CLIP tower stays a folder of its own.

    Raises:
        AffordAgentError: see `merged_network`; or `out` is not empty.
    """
    network, opened, origin = merged_network(run, base, vision_tower, dtype)
    save = save_published if form == "published" else save_safetensors
    save(network, opened, out)
    return origin
