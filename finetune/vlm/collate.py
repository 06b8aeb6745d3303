"""Rows to what the network reads: ids, labels, pictures and masks of a micro-batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import load_image, load_mask
from affordagent.finetune.vlm.answers import Conversation, training_conversation, validation_conversation
from affordagent.finetune.vlm.conversation import IGNORE, labelled_ids
from affordagent.finetune.vlm.mixture import Mixture
from affordagent.finetune.vlm.network import PATCHES
from affordagent.finetune.vlm.pictures import clip_pixels, sam_pixels
from affordagent.finetune.vlm.tokens import Tokens


@dataclass(frozen=True)
class Example:
    """One picture and what is said about it. ids, labels: (L,) int64 for each conversation; masks: (n, H, W) bool for
    each. clip, sam, resized, size: see `finetune.vlm.pictures`; k: its number in the run."""

    k: int
    clip: Tensor
    sam: Tensor
    resized: tuple[int, int]
    size: tuple[int, int]
    ids: list[Tensor]
    labels: list[Tensor]
    masks: list[Tensor]


@dataclass(frozen=True)
class Batch:
    """The arguments of `AffordanceVlm.forward`, and masks: (n, H, W) bool for each conversation. numbers: the `k`s."""

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor
    images_clip: Tensor
    images_sam: Tensor
    picture_of: Tensor
    resized: list[tuple[int, int]]
    sizes: list[tuple[int, int]]
    masks: list[Tensor]
    numbers: list[int]

    def inputs(self) -> dict[str, Any]:
        """What `AffordanceVlm.forward` takes."""
        return {name: value for name, value in vars(self).items() if name not in ("masks", "numbers")}

    def to(self, device: torch.device) -> Batch:
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved, masks=[mask.to(device) for mask in self.masks])


class TrainingExamples(Dataset[Example]):
    """Number k of the mixture, ready for the network: any process that asks for k gets the same."""

    def __init__(self, mixture: Mixture, tokens: Tokens, max_length: int) -> None:
        self.mixture, self.tokens, self.max_length = mixture, tokens, max_length

    def __getitem__(self, k: int) -> Example:
        """
        Raises:
            AffordAgentError: a picture, mask or text that cannot be used; names it.
        """
        draw = self.mixture.draw(k)
        image = load_image(draw.rows[0])
        masks = [load_mask(row, image.shape) for row in draw.rows]
        if draw.flip is not None:
            image = np.ascontiguousarray(cv2.flip(image, draw.flip))
            masks = [cv2.flip(mask.astype(np.uint8), draw.flip) > 0 for mask in masks]
        says = [training_conversation(row, draw.rng) for row in draw.rows]
        return example(k, image, draw.rows, says, masks, self.tokens, self.max_length)


class ValidationExamples(Dataset[Example]):
    """Row k of a validation set, teacher-forced."""

    def __init__(self, samples: list[Sample], tokens: Tokens) -> None:
        self.samples, self.tokens = samples, tokens

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, k: int) -> Example:
        sample = self.samples[k]
        image = load_image(sample)
        says = [validation_conversation(sample)]
        return example(k, image, (sample,), says, [load_mask(sample, image.shape)], self.tokens, None)


def example(
    k: int,
    image: NDArray[np.uint8],
    rows: tuple[Sample, ...],
    says: list[Conversation],
    masks: list[Mask],
    tokens: Tokens,
    max_length: int | None,
) -> Example:
    """max_length: of a conversation in tokens, the picture counted as 256; what is longer is cut, with its masks."""
    ids, labels, kept = [], [], []
    for row, say, mask in zip(rows, says, masks, strict=True):
        row_ids, row_labels = (torch.tensor(v) for v in labelled_ids(tokens, say.turns, prefix=say.prefix))
        limit = None if max_length is None else max_length - (PATCHES - 1)
        row_ids, row_labels = row_ids[:limit], row_labels[:limit]
        if bool((row_labels == IGNORE).all()):
            raise AffordAgentError(
                f"the question '{row.text[:60]}' about {row.image} is so long that nothing of its answer is left of "
                f"{max_length} tokens; shorten it"
            )
        count = int(torch.isin(row_ids, torch.tensor(tokens.mask_ids)).sum())
        ids.append(row_ids)
        labels.append(row_labels)
        kept.append(torch.from_numpy(mask)[None].expand(say.masks, -1, -1)[:count])
    sam, resized = sam_pixels(image)
    return Example(k, clip_pixels(image), sam, resized, image.shape[:2], ids, labels, kept)


def collate(examples: list[Example], filling: int) -> Batch:
    """Conversations of one length: short ones are filled at the right with the unknown token's id, `filling`, which the
    attention leaves out wherever it stands, as published."""
    ids = [row for one in examples for row in one.ids]
    input_ids = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=filling)
    return Batch(
        input_ids=input_ids,
        labels=torch.nn.utils.rnn.pad_sequence(
            [row for one in examples for row in one.labels], batch_first=True, padding_value=IGNORE
        ),
        attention_mask=input_ids != filling,
        images_clip=torch.stack([one.clip for one in examples]),
        images_sam=torch.stack([one.sam for one in examples]),
        picture_of=torch.tensor([number for number, one in enumerate(examples) for _ in one.ids]),
        resized=[one.resized for one in examples],
        sizes=[one.size for one in examples],
        masks=[mask for one in examples for mask in one.masks],
        numbers=[one.k for one in examples],
    )
