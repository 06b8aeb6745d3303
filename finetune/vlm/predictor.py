"""Ask an AffordanceVLM in the published format about a picture."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import VlmAnswer
from affordagent.finetune.vlm import conversation
from affordagent.finetune.vlm.checkpoint import load_network, open_checkpoint
from affordagent.finetune.vlm.network import widen
from affordagent.finetune.vlm.pictures import check_picture, clip_pixels, sam_pixels
from affordagent.finetune.vlm.precision import LoadIn, choose_device, choose_dtype

TEST_QUESTION = "What is the affordance map of mug in this image?"
LEAST_SPREAD = 1e-3  # of the logits of a mask that shows something


@dataclass(frozen=True)
class _Seen:
    """What the network made of one picture. patches: (1, 256, hidden); image: (1, C, 64, 64)."""

    key: bytes
    patches: Tensor
    image: Tensor
    resized: tuple[int, int]


class VlmPredictor:
    """The published model, ready to be asked. Not for several threads at once: it remembers the last picture."""

    def __init__(
        self,
        checkpoint: Path,
        vision_tower: Path | None = None,
        *,
        dtype: str = "auto",
        device: str = "auto",
        load_in: LoadIn | None = None,
        self_test: bool = False,
    ) -> None:
        """Load a checkpoint folder; see `open_checkpoint` for vision_tower.

        dtype: auto (bf16 on a GPU, float32 on a CPU), fp32, bf16 or fp16. device: auto, cpu, cuda, cuda:N. load_in:
        8bit or 4bit for the language model's layers. self_test: try it; anything below float32 is always tried.

        Raises:
            AffordAgentError: something is missing, does not fit, or needs more memory; or the self-test fails.
        """
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        opened = open_checkpoint(checkpoint, vision_tower)
        self.tokens = opened.tokens
        self.network = load_network(opened, self.dtype, self.device, load_in).requires_grad_(False)
        self._seen: _Seen | None = None
        self.load_in = load_in
        if self_test or load_in or self.dtype != torch.float32:
            self.self_test()

    def answer(
        self,
        image: NDArray[np.uint8],
        question: str,
        max_new_tokens: int = 512,
        use_cache: bool = True,
        *,
        prefix: bool = True,
    ) -> VlmAnswer:
        """Greedy answer to a question about a picture (H, W, 3) uint8 RGB, with a mask for every [AFF] and [SEG] in the
        question and the answer.

        question: without "You are an embodied robot. ", which is put in front (prefix=False leaves it out). use_cache:
        False reads the whole text anew for every word, as the reference does; the answer is the same.

        Raises:
            AffordAgentError: no picture or no question, or max_new_tokens below 1.
        """
        if max_new_tokens < 1:
            raise AffordAgentError(f"max_new_tokens is {max_new_tokens}, it must be at least 1")
        ids = self.tokens.encode(conversation.prompt(question, prefix=prefix))
        clock = _Clock()
        with torch.inference_mode():
            seen = self._look(image, clock)
            with clock.step("language"):
                embeds, attention = self._read(ids, seen)
                new_ids, hidden = self.network.generate(
                    embeds, attention, eos=self.tokens.eos, max_new_tokens=max_new_tokens, use_cache=use_cache
                )
            return self._finish(image, ids + new_ids, hidden, seen, clock)

    def teacher_forced(self, image: NDArray[np.uint8], question: str, reply: str, *, prefix: bool = True) -> VlmAnswer:
        """The masks for the [AFF] and [SEG] of a given reply, as the reference validates: one pass, nothing generated.

        Raises:
            AffordAgentError: no picture, no question or no reply.
        """
        ids, _ = conversation.labelled_ids(self.tokens, [(question, reply)], prefix=prefix)
        clock = _Clock()
        with torch.inference_mode():
            seen = self._look(image, clock)
            with clock.step("language"):
                embeds, attention = self._read(ids, seen)
                hidden = self.network.model(inputs_embeds=embeds, attention_mask=attention, use_cache=False)[0][0]
            return self._finish(image, ids, hidden, seen, clock)

    def self_test(self) -> None:
        """Ask for two masks on a made-up picture; a network that was loaded too coarsely marks nothing, or everything.

        Raises:
            AffordAgentError: a mask is not finite, or all are blank (the same everywhere, or nowhere above 0).
        """
        masks = self.teacher_forced(_test_picture(), TEST_QUESTION, "It is [SEG] and [AFF].").mask_logits
        self._seen = None
        loaded = f"loaded in {self.load_in or 'full'} with dtype {str(self.dtype).removeprefix('torch.')}"
        mend = "try dtype bf16" if self.dtype == torch.float16 else "try dtype fp32 without load_in"
        if self.dtype == torch.float32 and not self.load_in:
            mend = "the weights are damaged: download them again"
        if not np.isfinite(masks).all():
            raise AffordAgentError(f"self-test failed: the masks of the model {loaded} are not finite numbers; {mend}")
        if all(mask.max() <= 0 or np.ptp(mask) < LEAST_SPREAD for mask in masks):
            raise AffordAgentError(f"self-test failed: the model {loaded} answers with blank masks; {mend}")

    def _look(self, image: NDArray[np.uint8], clock: _Clock) -> _Seen:
        key = hashlib.sha256(repr(image.shape).encode() + check_picture(image).tobytes()).digest()
        if self._seen is None or self._seen.key != key:
            with clock.step("clip"):
                patches = self.network.encode_clip(clip_pixels(image)[None])
            with clock.step("sam"):
                pixels, resized = sam_pixels(image)
                self._seen = _Seen(key, patches, self.network.encode_sam(pixels[None]), resized)
        return self._seen

    def _read(self, ids: list[int], seen: _Seen) -> tuple[Tensor, Tensor | None]:
        row = torch.tensor([ids], device=self.device)
        return self.network.embed(row, seen.patches), widen(row != self.tokens.unk)

    def _finish(
        self, image: NDArray[np.uint8], ids: list[int], hidden: Tensor, seen: _Seen, clock: _Clock
    ) -> VlmAnswer:
        with clock.step("masks"):
            positions = self.network.mask_positions(torch.tensor(ids, device=self.device))
            low = self.network.decode_masks(hidden[positions], seen.image)
            masks = self.network.upscale(low, seen.resized, image.shape[:2]).cpu().numpy()
        return VlmAnswer(self.tokens.answer(ids), np.array(ids, dtype=np.int64), masks, clock.times_s)


class _Clock:
    def __init__(self) -> None:
        self.times_s: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.times_s[name] = time.perf_counter() - start


def _test_picture() -> NDArray[np.uint8]:
    """A bright upright block on a grey slope, (96, 128, 3)."""
    picture = np.empty((96, 128, 3), np.uint8)
    picture[:] = np.linspace(60, 160, 128, dtype=np.uint8)[None, :, None]
    picture[24:80, 44:84] = (210, 70, 40)
    return picture
