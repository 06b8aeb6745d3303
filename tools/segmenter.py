"""Masks from boxes and points: SAM 2 as transformers or Meta's own code runs it, from local weights only.

Ravi et al., "SAM 2: Segment Anything in Images and Videos" (ICLR 2025).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask
from affordagent.tools.detection import Box, Picture, Point
from affordagent.tools.local_weights import (
    best_device,
    explained,
    half_precision,
    place_of,
    pretrained,
    read_checkpoint,
)

if TYPE_CHECKING:
    import torch

SAM2 = "facebook/sam2.1-hiera-tiny"
CONFIGS = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}  # width and blocks of Hiera -> Meta's name
STEM = "image_encoder.trunk.patch_embed.proj.weight"
ONLY_IN_2_1 = "obj_ptr_tpos_proj.weight"
GET_SAM2 = (
    "install Meta's code with `SAM2_BUILD_CUDA=0 pip install --no-build-isolation 'affordagent[sam2]'`, or take the "
    f"hub's weights (`hf download {SAM2}`), which need no further package"
)

MASK_LOGIT = 10.0  # how sure a mask is that is given to be bettered; the model's own lie between -32 and 32
LOW_RES_PX = 256  # side of such a mask in Meta's code


@dataclass(frozen=True)
class Asked:
    """Of n masks. boxes: (n, 4). points: (n, k, 2), labels: (n, k) int, 1 on the thing and 0 off it. mask: (H, W) bool
    to better, for n = 1. several: give several answers for each?"""

    boxes: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None
    labels: NDArray[np.int32] | None = None
    mask: Mask | None = None
    several: bool = False

    def logits(self, size_px: tuple[int, int]) -> NDArray[np.float32] | None:
        """(1, h, w) the mask as the model wants it: of the whole picture, squeezed to its size."""
        if self.mask is None:
            return None
        low = cv2.resize(self.mask.astype(np.float32), size_px[::-1], interpolation=cv2.INTER_AREA)
        return (MASK_LOGIT * (2 * low - 1))[None].astype(np.float32)


Predict = Callable[[Asked], tuple[Mask, NDArray[np.float32]]]  # (n, C, H, W) masks and their (n, C) predicted IoU


@dataclass(frozen=True)
class Prompt:
    """Where a thing is, in pixels: in a box (x0, y0, x1, y1), under a point (x, y), or both. At least one is given."""

    box: Box | None = None
    point: Point | None = None


class Segmenter:
    """SAM 2. weights: a folder, a hub's name that is in the local cache, or Meta's own checkpoint, such as
    `sam2.1_hiera_tiny.pt`, which needs the package `sam2`.

    Raises:
        AffordAgentError: no such weights here, weights of something else, or no package for them.
    """

    def __init__(self, weights: str = SAM2) -> None:
        self._look = _of_meta(Path(weights).expanduser()) if weights.endswith(".pt") else _of_hub(weights)

    def segment(self, picture: Picture, prompts: Sequence[Prompt]) -> tuple[Mask, NDArray[np.float64]]:
        """(n, H, W) bool masks for n prompts in the (H, W, 3) uint8 RGB picture, at least one, and the IoU with the
        truth that the model predicts for each, (n,) in [0, 1]. The picture is encoded once. A point alone may mean a
        thing or its part: of the three answers the one that the model likes best is taken."""
        predict = self._look(picture)
        masks = np.zeros((len(prompts), *picture.shape[:2]), bool)
        iou = np.zeros(len(prompts))
        alike = defaultdict(list)
        for i, prompt in enumerate(prompts):
            alike[prompt.box is not None, prompt.point is not None].append(i)
        for (with_box, with_point), index in alike.items():
            boxes = np.array([prompts[i].box for i in index], np.float32) if with_box else None
            points = np.array([[prompts[i].point] for i in index], np.float32) if with_point else None
            labels = np.ones((len(index), 1), np.int32) if with_point else None
            answers, quality = predict(Asked(boxes, points, labels, several=not with_box))
            best = quality.argmax(1)
            masks[index] = answers[np.arange(len(index)), best]
            iou[index] = quality[np.arange(len(index)), best].clip(0, 1)
        return masks, iou

    def better(self, picture: Picture, points: Sequence[Point], on_it: Sequence[bool], mask: Mask) -> Mask:
        """(H, W) bool: the mask as it should be by all these points (x, y), on the thing or off it, at least one; an
        empty mask says nothing. The best of three answers to the first point, then one answer, as SAM was trained."""
        points_px, labels = np.array([points], np.float32), np.array([on_it], np.int32)
        known = mask if mask.any() else None
        asked = Asked(None, points_px, labels, known, several=known is None and len(points) == 1)
        answers, quality = self._look(picture)(asked)
        return answers[0, quality[0].argmax()]


def _of_hub(weights: str) -> Callable[[Picture], Predict]:
    import torch
    from transformers import Sam2Model, Sam2Processor

    device = best_device()
    with explained(weights, "SAM 2", SAM2):
        model = pretrained(Sam2Model, weights).eval().to(device)
        processor = Sam2Processor.from_pretrained(place_of(weights), local_files_only=True)

    def look(picture: Picture) -> Predict:
        size = picture.shape[:2]
        pixels = processor(images=[picture], return_tensors="pt")["pixel_values"].to(device)
        with torch.inference_mode(), half_precision(device):
            embeddings = model.get_image_embeddings(pixels)

        def predict(asked: Asked) -> tuple[Mask, NDArray[np.float32]]:
            prompts: dict[str, Any] = {}
            if asked.boxes is not None:
                prompts["input_boxes"] = [asked.boxes.tolist()]
            if asked.points is not None and asked.labels is not None:
                prompts["input_points"] = [asked.points.tolist()]
                prompts["input_labels"] = [asked.labels.tolist()]
            inputs = processor(original_sizes=[size], return_tensors="pt", **prompts).to(device)
            del inputs["original_sizes"]
            logits = asked.logits(model.prompt_encoder.mask_input_size)
            if logits is not None:
                inputs["input_masks"] = torch.from_numpy(logits[None]).to(device)
            with torch.inference_mode(), half_precision(device):
                outputs = model(image_embeddings=embeddings, multimask_output=asked.several, **inputs)
            masks = processor.post_process_masks(outputs.pred_masks.float().cpu(), [size])[0]
            return masks.numpy(), outputs.iou_scores[0].float().cpu().numpy()

        return predict

    return look


def _of_meta(path: Path) -> Callable[[Picture], Predict]:
    import torch

    device = best_device()
    weights = read_pt(path)
    config = config_of(weights, path)
    try:
        from sam2.build_sam import build_sam2
        from sam2.sam2_image_predictor import SAM2ImagePredictor
    except ImportError as error:
        raise AffordAgentError(f"{path} is one of Meta's checkpoints, and {error}: {GET_SAM2}") from error
    model = build_sam2(config, device="cpu")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise AffordAgentError(f"{path} does not hold the weights of {config}: {error}") from error
    predictor = SAM2ImagePredictor(model.to(device))

    def look(picture: Picture) -> Predict:
        with torch.inference_mode(), half_precision(device):
            predictor.set_image(picture)

        def predict(asked: Asked) -> tuple[Mask, NDArray[np.float32]]:
            n = len(asked.boxes if asked.boxes is not None else asked.points)  # type: ignore[arg-type]
            with torch.inference_mode(), half_precision(device):
                masks, iou, _ = predictor.predict(
                    box=asked.boxes,
                    point_coords=asked.points,
                    point_labels=asked.labels,
                    mask_input=asked.logits((LOW_RES_PX, LOW_RES_PX)),
                    multimask_output=asked.several,
                )
            return masks.reshape(n, -1, *picture.shape[:2]) > 0, iou.reshape(n, -1)

        return predict

    return look


def read_pt(path: Path) -> dict[str, torch.Tensor]:
    """The weights in one of Meta's checkpoints.

    Raises:
        AffordAgentError: no such file, or no such checkpoint. Files that hold more than tensors and plain containers
            are refused.
    """
    mend = f"Meta's are listed at github.com/facebookresearch/sam2, or take the hub's weights: `hf download {SAM2}`"
    loaded = read_checkpoint(path, mend)
    weights = loaded.get("model") if isinstance(loaded, dict) else None
    if not isinstance(weights, dict) or STEM not in weights:
        raise AffordAgentError(f"{path} is no checkpoint of SAM 2: it has no model/{STEM}")
    return weights


def config_of(weights: dict[str, torch.Tensor], path: Path) -> str:
    """The configuration in the package `sam2` that such weights belong to, whatever their file is called.

    Raises:
        AffordAgentError: they are of no size that Meta published.
    """
    blocks = {name.split(".")[3] for name in weights if name.startswith("image_encoder.trunk.blocks.")}
    size = CONFIGS.get((len(weights[STEM]), len(blocks)))
    if size is None:
        sizes = ", ".join(f"{name}: {width} and {n}" for (width, n), name in CONFIGS.items())
        raise AffordAgentError(
            f"{path}: a Hiera of width {len(weights[STEM])} with {len(blocks)} blocks is none of Meta's ({sizes})"
        )
    version = "2.1" if ONLY_IN_2_1 in weights else "2"
    return f"configs/sam{version}/sam{version}_hiera_{size}.yaml"
