"""Weights of published models that lie on this computer: read from safetensors, never downloaded, and the command that
gets them where they are missing."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    import torch


def best_device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def half_precision(device: torch.device) -> Iterator[None]:
    """float16 where it is faster, on a GPU; what needs float32 stays in it."""
    import torch

    with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
        yield


def place_of(weights: str) -> str:
    """The folder that `weights` names, else the name as it is, for the hub's cache."""
    folder = Path(weights).expanduser()
    return str(folder) if folder.is_dir() else weights


def is_here(weights: str) -> bool:
    """Is there such a folder or file, or such a name in the hub's local cache? Nothing is read."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(weights).expanduser().exists():
        return True
    try:
        return isinstance(try_to_load_from_cache(weights, "config.json"), str)
    except HFValidationError:  # a path
        return False


def pretrained(kind: Any, weights: str) -> Any:
    """The model with all its weights, from safetensors on this computer.

    Raises:
        ValueError: some of the weights are missing.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    told = logging.get_verbosity()
    logging.set_verbosity_error()  # the hub's SAM 2 is the video model, which holds the one for pictures
    try:
        model, info = kind.from_pretrained(
            place_of(weights), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    finally:
        logging.set_verbosity(told)
    wrong = sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"])))
    if wrong:
        raise ValueError(f"{len(wrong)} weights are missing or of another size, {wrong[0]} is the first")
    return model


def read_checkpoint(path: Path, mend: str, opened: IO[bytes] | None = None) -> Any:
    """What a checkpoint of torch holds, on the CPU. Files that hold more than tensors and plain containers are refused.

    mend: where such a file is to be had. opened: the checkpoint where it lies within `path`.

    Raises:
        AffordAgentError: no such file, or no such checkpoint. Torch's own words are left out: they recommend to open
            such a file unsafely.
    """
    import torch

    try:
        return torch.load(opened or path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise AffordAgentError(f"cannot read the weights {path}: {error.strerror or error}; {mend}") from error
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise AffordAgentError(
            f"{path} is no checkpoint that can be read safely: it is broken, or holds more than tensors and would run "
            f"code when opened; {mend}"
        ) from error


@contextmanager
def explained(weights: str, what: str, hub: str) -> Iterator[None]:
    """Turns what goes wrong while the weights of `what` are read into an AffordAgentError with the command that gets
    them as `hub`."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AffordAgentError(
            f"the weights of {what} are not available as '{weights}' ({reason}). Nothing is downloaded by itself: on a "
            f"computer with a network type `hf download {hub}` (before huggingface_hub 1.0: `huggingface-cli download "
            f"{hub}`); add `--local-dir DIR` and name DIR to carry them over"
        ) from error
