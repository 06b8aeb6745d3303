"""What is said to a model about a row of affordance data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from affordagent.agent.language.details import part_of
from affordagent.finetune.data.questions import AFFORDANCE_VAL, SEGMENTATION_VAL, SENTENCE_VAL
from affordagent.finetune.data.schema import Sample

# What the training templates, and people, put round the name of a thing.
_FRAMES = (
    re.compile(
        r"^(?:(?:can|could|would) you )?(?:please )?(?:segment|outline|mask(?: out)?) (?P<map>the affordance map of )?"
        r"(?P<thing>.+?)(?: (?:in|on) (?:this|the) (?:image|picture|photo))?[.?!]?$",
        re.IGNORECASE,
    ),
    re.compile(
        r"^what is (?:(?P<map>the affordance map of )(?P<thing>.+?)(?: in this image)?\?"
        r"|(?P<other>.+?) in this image\? please (?:respond with|output) segmentation mask\.)$",
        re.IGNORECASE,
    ),
)
_TAIL = re.compile(r"\s*please (?:respond with|output) segmentation mask\.$", re.IGNORECASE)
_DETERMINER = re.compile(r"^(?:the|a|an|my|your|his|her|our|their|this|that|some)\b", re.IGNORECASE)
_HANDLE = re.compile(r"\b(?:handle|grip)s?\b", re.IGNORECASE)
_WHOLE = re.compile(r"\b(?:whole|entire|complete)\b", re.IGNORECASE)
SHORT_WORDS = 2  # as many words without any determiner are taken for a name


@dataclass(frozen=True)
class Request:
    """A command for the language stage, and whether the whole thing is asked for rather than the part to hold."""

    text: str
    whole: bool


def request_of(sample: Sample) -> Request:
    """What a person at the robot would say for this row.

    Questions of the training templates ("What is the affordance map of mug in this image?", "segment the bowl") and
    bare names ("the green bowl") become "pick up the ...". The whole thing is meant by the kinds of LISA's sets, by
    "segment ..." without an affordance map, and by the word "whole"; a part that is named goes before.
    """
    name, whole = _name_of(sample)
    if name is not None:
        text = f"pick up {name}" if _DETERMINER.match(name) else f"pick up the {name}"
    else:
        text = _TAIL.sub("", sample.text.strip())
    return Request(text, whole)


def _name_of(sample: Sample) -> tuple[str | None, bool]:
    """(what the text names, if it does no more than that; whether the whole of it is meant)."""
    text = sample.text.strip()
    if sample.kind in ("easy", "hard"):
        return None, False
    whole = sample.kind != "template" or _WHOLE.search(text) is not None
    framed = next((found for frame in _FRAMES if (found := frame.match(text))), None)
    if framed is not None:
        groups = framed.groupdict()
        text, whole = (groups["thing"] or groups["other"]).strip(), whole or not groups["map"]
    else:
        text = text.rstrip(".")
    bare = "?" not in text and (_DETERMINER.match(text) is not None or len(text.split()) <= SHORT_WORDS)
    part_is_named = part_of(text.lower()) is not None or _HANDLE.search(text) is not None
    return text if framed is not None or bare else None, whole and not part_is_named


@dataclass(frozen=True)
class Question:
    """A question in the words a published model was trained on. prefix: "You are an embodied robot. " goes before it.
    reply: the answer that the reference's validation forces on the model."""

    text: str
    prefix: bool
    reply: str


def question_of(sample: Sample) -> Question:
    """As the validations of AffordanceNet (utils/aff_seg_dataset.py, reason_aff_dataset.py) and LISA ask it.

    Template rows ask for the affordance map of their category (of the thing they name, without one), easy and hard ones
    their own text, with their own answer before " [AFF]."; what asks for whole things asks for a [SEG], without prefix.
    """
    name, whole = _name_of(sample)
    if sample.kind == "template" and not (whole and sample.category is None):
        thing = sample.category or (name and re.sub(r"^the ", "", name, flags=re.IGNORECASE))
        text = AFFORDANCE_VAL.format(thing) if thing else sample.text
        return Question(text, True, "[AFF].")
    if sample.kind in ("easy", "hard"):
        return Question(sample.text, True, f"{sample.answer} [AFF]." if sample.answer else "[AFF].")
    if re.search(r"segment|affordance map", sample.text, re.IGNORECASE):
        return Question(sample.text, False, "[SEG].")
    text = SENTENCE_VAL.format(sample.text) if name is None else SEGMENTATION_VAL.format(name)
    return Question(text, False, "[SEG].")
