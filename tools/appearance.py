"""What a crop looks like, in words, from weights that ship with packages.

The EfficientNet-Lite0 classifier names 1000 ImageNet classes; MiniLM says which of our things each class name is near.
The probability of a thing is the sum over classes of p(class | crop) times the thing's share of that class. The
likenesses of the known things come with the package (they take seconds to compute); after a change of the words
rebuild them with `python -m affordagent.tools.appearance`. Until then they are computed anew at the first use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.embedded import MINILM_SHA256, lite0_classifier, text_encoder
from affordagent.core.types import Mask, ObjectProposal, RgbdFrame
from affordagent.tools.vocabulary import known_things

# ImageNet classes that may stand on a table: artefacts, food, fruit. Animals, landscapes and people are left out, so
# their probability goes to what a thing on a table can be.
TABLETOP_CLASSES = [*range(398, 970), *range(984, 1000)]
SIDE_PX = 224
AT_ONCE = 4  # crops
MARGIN = 1.3  # side of the crop by the longer side of the box
TEMPERATURE = 0.07  # of the word shares

LIKENESSES = Path(__file__).with_name("likenesses.npz")

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


@cache
def class_names() -> tuple[str, ...]:
    """Names of TABLETOP_CLASSES."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES as NAMES

    return tuple(NAMES[i] for i in TABLETOP_CLASSES)


@cache
def _stored() -> dict[str, NDArray[np.float32]]:
    """The packaged embeddings, empty when they do not belong to today's words and encoder."""
    if LIKENESSES.is_file():
        with np.load(LIKENESSES, allow_pickle=False) as stored:
            if str(stored["digest"]) == _digest():
                return {name: stored[name].astype(np.float32) for name in ("classes", "known")}
    return {}


@cache
def class_embeddings() -> NDArray[np.float32]:
    """(C, 384) unit embeddings of the class names."""
    stored = _stored().get("classes")
    names = [f"a photo of a {name}" for name in class_names()]
    return text_encoder().sentences(names) if stored is None else stored


def likenesses(things: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
    """(V, C) cosine of the likest word of each thing to each class name."""
    ours = text_encoder().sentences([f"a photo of a {word}" for words in things for word in words])
    starts = np.cumsum([0] + [len(words) for words in things[:-1]])
    return np.maximum.reduceat(ours @ class_embeddings().T, starts)


@cache
def known_likenesses() -> NDArray[np.float32]:
    """(V, C) of all known things."""
    stored = _stored().get("known")
    return likenesses(list(known_things().values())) if stored is None else stored


@cache
def _known_shares() -> NDArray[np.float64]:
    """(C, V) share of each class that each known thing has, without other words."""
    return _shares(known_likenesses())


def _shares(near: NDArray[np.float32]) -> NDArray[np.float64]:
    share = np.exp((near - near.max(0)) / TEMPERATURE).astype(np.float64)
    return (share / share.sum(0)).T


def _digest() -> str:
    return hashlib.sha256(json.dumps([MINILM_SHA256, class_names(), known_things()]).encode()).hexdigest()


def class_posterior(frame: RgbdFrame, proposals: list[ObjectProposal]) -> NDArray[np.float32]:
    """(P, C) probability of each ImageNet class for each proposal, whose surroundings are greyed out."""
    import torch

    crops = np.stack([_crop(frame.color, p) for p in proposals]).transpose(0, 3, 1, 2)
    batch = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():  # a few at a time: less memory at the peak
        logits = torch.cat([lite0_classifier()(few) for few in batch.split(AT_ONCE)])
        return logits[:, TABLETOP_CLASSES].softmax(1).numpy()


def thing_posterior(classes: NDArray[np.float32], others: tuple[str, ...] = ()) -> NDArray[np.float64]:
    """(P, V + len(others)) probability of each known thing, and of other words, from (P, C) class probabilities."""
    if not others:
        return classes.astype(np.float64) @ _known_shares()
    near = np.concatenate([known_likenesses(), likenesses([(word,) for word in others])])
    return classes.astype(np.float64) @ _shares(near)


def _crop(color: NDArray[np.uint8], proposal: ObjectProposal) -> NDArray[np.float32]:
    """(224, 224, 3) normalised square round the box."""
    x0, y0, x1, y1 = proposal.box
    half = max(x1 - x0, y1 - y0) * MARGIN / 2
    scale = SIDE_PX / (2 * half)
    A = np.array([[scale, 0, SIDE_PX / 2 - scale * (x0 + x1) / 2], [0, scale, SIDE_PX / 2 - scale * (y0 + y1) / 2]])
    flag = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture, size = _greyed(color, proposal.mask), (SIDE_PX, SIDE_PX)
    square = cv2.warpAffine(picture, A, size, flags=flag, borderMode=cv2.BORDER_REPLICATE)
    return ((square.astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)


def _greyed(color: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(near[..., None], color, np.uint8(200))


if __name__ == "__main__":
    _stored = cache(dict)  # nothing: make all anew
    classes, known = class_embeddings().astype(np.float16), known_likenesses().astype(np.float16)
    np.savez_compressed(LIKENESSES, classes=classes, known=known, digest=np.array(_digest()))
