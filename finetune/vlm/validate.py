"""gIoU and cIoU of a network in training, teacher-forced, as the published loop validates after each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from affordagent.core.overlap import overlap
from affordagent.core.types import Mask
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import load_ignored, load_image
from affordagent.finetune.vlm.collate import Batch, ValidationExamples, collate

CIOU_EPSILON = 1e-10
SHOWN = 4  # pictures a validation puts into TensorBoard
PREDICTED, TRUE = (40, 200, 90), (255, 220, 0)


@dataclass(frozen=True)
class Score:
    """Over n masks; all processes hold the same. pictures: (H, W, 3) uint8 of the first rows, of this process alone."""

    giou: float
    ciou: float
    n: int
    pictures: list[NDArray[np.uint8]]


def rows_to_validate(samples: list[Sample]) -> list[Sample]:
    """Those with a mask: what a model says of a thing that is not there cannot be forced on it."""
    return [s for s in samples if s.kind != "vqa" and (s.mask is not None or s.mask_rle is not None)]


@torch.no_grad()
def validate(model: nn.Module, accelerator: Accelerator, examples: ValidationExamples, workers: int = 0) -> Score:
    """Row k is looked at by process k modulo their number; all make the same number of passes, as sharded weights need,
    and what is looked at twice counts once."""
    model.eval()
    sums = np.zeros(4)  # IoU, intersection, union, masks
    pictures: list[NDArray[np.uint8]] = []
    count = len(examples)
    own = _own(count, accelerator)
    for k, batch in zip(own, _loader(examples, own, workers), strict=True):
        output = model(**batch.to(accelerator.device).inputs())
        if k >= count:  # filling of the last round
            continue
        predicted, truth = (output.mask_logits[0][0] > 0).cpu().numpy(), batch.masks[0][0].numpy()
        one = overlap(predicted, truth, load_ignored(examples.samples[k], truth.shape))
        sums += (one.iou, one.intersection, one.union, 1)
        if len(pictures) < SHOWN:
            pictures.append(drawn(load_image(examples.samples[k]), predicted, truth))
    model.train()
    total = accelerator.reduce(torch.tensor(sums, device=accelerator.device, dtype=torch.float32)).tolist()
    return Score(total[0] / total[3], total[1] / (total[2] + CIOU_EPSILON), round(total[3]), pictures)


def drawn(image: NDArray[np.uint8], predicted: Mask, truth: Mask) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the prediction laid over the picture, the true outline around it."""
    out = image.copy()
    out[predicted] = (0.45 * out[predicted] + 0.55 * np.array(PREDICTED)).astype(np.uint8)
    outlines, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(out, outlines, -1, TRUE, 2)  # type: ignore[return-value]


def _own(count: int, accelerator: Accelerator) -> list[int]:
    rank, world = accelerator.process_index, accelerator.num_processes
    return [rank + world * turn for turn in range(-(-count // world))]


def _loader(examples: ValidationExamples, own: list[int], workers: int) -> Iterator[Batch]:
    loader = DataLoader(
        examples,
        batch_size=1,
        sampler=[k % len(examples) for k in own],
        num_workers=workers,
        collate_fn=partial(collate, filling=examples.tokens.unk),
        generator=torch.Generator(),  # the loader must not touch the numbers that dropout draws from
    )
    return iter(loader)
