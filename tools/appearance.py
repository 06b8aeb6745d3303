"""What a crop looks like, in words, from weights that ship with packages.

The EfficientNet-Lite0 classifier names 1000 ImageNet classes; MiniLM says which of our words each class name is near.
The probability of a word is the sum over classes of p(class | crop) times the word's share of that class.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.embedded import lite0_classifier, text_encoder
from affordagent.core.types import Mask, ObjectProposal, RgbdFrame

# ImageNet classes that may stand on a table: artefacts, food, fruit. Animals, landscapes and people are left out, so
# their probability goes to what a thing on a table can be.
TABLETOP_CLASSES = [*range(398, 970), *range(984, 1000)]
SIDE_PX = 224
MARGIN = 1.3  # side of the crop by the longer side of the box
TEMPERATURE = 0.07  # of the word shares

EMBEDDINGS = Path(__file__).with_name("imagenet_classes.npy")  # written by running this module

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


@cache
def class_names() -> tuple[str, ...]:
    """Names of TABLETOP_CLASSES."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES as NAMES

    return tuple(NAMES[i] for i in TABLETOP_CLASSES)


@cache
def class_embeddings() -> NDArray[np.float32]:
    """(C, 384) unit embeddings of the class names: read from EMBEDDINGS, since making them costs seconds."""
    return np.load(EMBEDDINGS).astype(np.float32)


def embed_class_names() -> NDArray[np.float16]:
    """What EMBEDDINGS holds, made anew."""
    return text_encoder().sentences([f"a photo of a {name}" for name in class_names()]).astype(np.float16)


def class_posterior(frame: RgbdFrame, proposals: list[ObjectProposal]) -> NDArray[np.float32]:
    """(P, C) probability of each ImageNet class for each proposal: mean of the crop as it is and of the crop with the
    surroundings greyed out."""
    import torch

    crops = [crop for p in proposals for crop in (_crop(frame.color, p, False), _crop(frame.color, p, True))]
    batch = torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        logits = lite0_classifier()(batch)[:, TABLETOP_CLASSES]
    posterior = logits.softmax(1).numpy().reshape(len(proposals), 2, -1)
    return posterior.mean(1)


def word_posterior(classes: NDArray[np.float32], vocabulary: dict[str, list[str]]) -> NDArray[np.float64]:
    """(P, V) probability of each entry of a vocabulary, from (P, C) class probabilities. An entry is a list of
    names; the best of them counts."""
    names = [f"a photo of a {name}" for entry in vocabulary.values() for name in entry]
    similarity = text_encoder().sentences(names) @ class_embeddings().T  # (names, C)
    ends = np.cumsum([len(entry) for entry in vocabulary.values()])
    nearest = np.stack([rows.max(0) for rows in np.split(similarity, ends[:-1])])  # (V, C)
    share = np.exp((nearest - nearest.max(0)) / TEMPERATURE)
    share = share / share.sum(0)
    return classes.astype(np.float64) @ share.T


def _crop(color: NDArray[np.uint8], proposal: ObjectProposal, masked: bool) -> NDArray[np.float32]:
    """(224, 224, 3) normalised square round the box."""
    x0, y0, x1, y1 = proposal.box
    half = max(x1 - x0, y1 - y0) * MARGIN / 2
    scale = SIDE_PX / (2 * half)
    A = np.array([[scale, 0, SIDE_PX / 2 - scale * (x0 + x1) / 2], [0, scale, SIDE_PX / 2 - scale * (y0 + y1) / 2]])
    flag = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = _greyed(color, proposal.mask) if masked else color
    square = cv2.warpAffine(picture, A, (SIDE_PX, SIDE_PX), flags=flag, borderMode=cv2.BORDER_REPLICATE)
    return ((square.astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)


def _greyed(color: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(near[..., None], color, np.uint8(200))


if __name__ == "__main__":
    np.save(EMBEDDINGS, embed_class_names())
