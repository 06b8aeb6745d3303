"""The question templates of the published training and validation (RAGNet's code, and LISA's for its sets).

Without the "You are an embodied robot. " that is put before affordance questions, and without the picture's token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

AFFORDANCE = (  # one counts twice, as published
    "Can you segment the affordance map of {} in this image?",
    "Please segment the affordance map of {} in this image.",
    "What is the affordance map of {} in this image?",
    "What is the affordance map of {} in this image?",
)
AFFORDANCE_VAL = "What is the affordance map of {} in this image?"

SEGMENTATION = (
    "Can you segment the {} in this image?",
    "Please segment the {} in this image.",
    "What is {} in this image? Please respond with segmentation mask.",
    "What is {} in this image? Please output segmentation mask.",
)
SEGMENTATION_VAL = "What is {} in this image? Please output segmentation mask."

SENTENCE = ("{} Please respond with segmentation mask.", "{} Please output segmentation mask.")
SENTENCE_VAL = "{} Please output segmentation mask."

EXPLANATION = (
    "{} Please output segmentation mask and explain why.",
    "{} Please output segmentation mask and explain the reason.",
    "{} Please output segmentation mask and give some explanation.",
)


def ask(rng: np.random.Generator, templates: Sequence[str], words: str) -> str:
    """One of the templates about `words`."""
    return templates[int(rng.integers(len(templates)))].format(words)
