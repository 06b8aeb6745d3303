"""Weight files of a checkpoint folder: PyTorch's (never executing what is pickled) and safetensors, whole or in shards.

Files are mapped, not read: shapes are known at once, bytes come from the disk when a tensor is copied.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.tokens import read_json

SAFE, TORCH = "model.safetensors", "pytorch_model.bin"
SHARD_BYTES = 10 * 1000**3  # transformers 4.31's limit


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder by name, on the CPU, mapped from the files.

    Looks for model.safetensors(.index.json), then pytorch_model.bin(.index.json).

    Raises:
        AffordAgentError: no weights, a shard is missing, or a file is broken or holds more than plain tensors.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        tensors |= read_file(file)
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The weight files that `read_weights` reads."""
    for name in (SAFE, TORCH):
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = sorted(set(read_json(index).get("weight_map", {}).values()))
            missing = [s for s in shards if Path(s).name != s or not (folder / s).is_file()]
            if missing or not shards:
                raise AffordAgentError(
                    f"{index} names {', '.join(missing) or 'no file'}, not there; "
                    f"download all {len(shards)} weight files of {folder.name} again"
                )
            return [folder / s for s in shards]
        if (folder / name).is_file():
            return [folder / name]
    raise AffordAgentError(
        f"{folder} holds no weights ({SAFE} or {TORCH}, or their .index.json); complete the download"
    )


def read_file(file: Path) -> dict[str, Tensor]:
    """The tensors of one file, mapped.

    Raises:
        AffordAgentError: it is not there, broken, or holds more than plain tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        values = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise AffordAgentError(
            f"{file} is broken, or holds more than tensors and would run code when opened; download it again"
        ) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise AffordAgentError(f"{file} cannot be read, download it again: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(v, Tensor) for v in values.values()):
        raise AffordAgentError(f"{file} is not a state dict: a dict of names and tensors is needed")
    return values


def write_weights(tensors: dict[str, Tensor], folder: Path, name: str, max_shard_bytes: int = SHARD_BYTES) -> None:
    """Write `name` (model.safetensors or pytorch_model.bin) to the folder; more than max_shard_bytes go to shards of
    about that size with an index, named as transformers does."""
    shards: list[dict[str, Tensor]] = [{}]
    for key, tensor in tensors.items():
        if shards[-1] and sum(map(_bytes, shards[-1].values())) + _bytes(tensor) > max_shard_bytes:
            shards.append({})
        shards[-1][key] = tensor
    stem, suffix = name.split(".")
    if len(shards) == 1:
        return _write_file(shards[0], folder / name)
    files = [f"{stem}-{i + 1:05d}-of-{len(shards):05d}.{suffix}" for i in range(len(shards))]
    for shard, file in zip(shards, files, strict=True):
        _write_file(shard, folder / file)
    index = {
        "metadata": {"total_size": sum(map(_bytes, tensors.values()))},
        "weight_map": {key: file for shard, file in zip(shards, files, strict=True) for key in shard},
    }
    (folder / f"{name}.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_file(tensors: dict[str, Tensor], file: Path) -> None:
    # copies: a view would drag its whole storage into the file, and safetensors takes no shared storage
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    if file.suffix == ".safetensors":
        save_file(plain, file, metadata={"format": "pt"})
    else:
        torch.save(plain, file)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
