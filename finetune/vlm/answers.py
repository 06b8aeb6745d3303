"""What is asked and answered in training and validation about a row of data, as the published code words it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.questions import AFFORDANCE, AFFORDANCE_VAL, EXPLANATION, SEGMENTATION, SENTENCE, ask
from affordagent.finetune.data.schema import AFFORDANCE as AFFORDANCE_KINDS
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.vlm.tokens import AFF, SEG

AFFORDANCE_ANSWERS = (
    f"It is {AFF}.",
    f"Sure, {AFF}.",
    f"Sure, it is {AFF}.",
    f"Sure, the affordance map is {AFF}.",
    f"{AFF}.",
)
SEGMENTATION_ANSWERS = (
    f"It is {SEG}.",
    f"Sure, {SEG}.",
    f"Sure, it is {SEG}.",
    f"Sure, the segmentation result is {SEG}.",
    f"{SEG}.",
)
# Ours: the published sets ask for nothing that is not there.
ABSENT_ANSWERS = ("It is not in this image.", "There is no such thing in this image.", "I do not see it here.")
# More particular ones first: what a template of one family says may fit another's.
FAMILIES = (AFFORDANCE, SEGMENTATION, EXPLANATION, SENTENCE)


@dataclass(frozen=True)
class Conversation:
    """turns: (question, answer). prefix: "You are an embodied robot. " goes before the first. masks: how many [AFF] and
    [SEG] its answers hold: 0 or 1."""

    turns: list[tuple[str, str]]
    prefix: bool
    masks: int


def training_conversation(sample: Sample, rng: np.random.Generator) -> Conversation:
    """A row with a template for its question and its answer drawn anew.

    Affordance rows answer with [AFF] (behind their own answer, where they have one), rows of the general sets with
    [SEG] (before theirs), rows without any mask with words alone.

    Raises:
        AffordAgentError: the row's own words hold [AFF] or [SEG], or a conversation has no answer.
    """
    _check(sample)
    affordance = sample.kind in AFFORDANCE_KINDS
    masked = sample.mask is not None or sample.mask_rle is not None
    if sample.kind == "vqa":
        return Conversation([(sample.text, str(sample.answer)), *_rounds(sample)], False, 0)
    question = sample.text if sample.kind in ("easy", "hard") else reworded(sample.text, rng)
    if not masked:
        return Conversation([(question, sample.answer or _one_of(ABSENT_ANSWERS, rng))], affordance, 0)
    if affordance:
        answer = f"{sample.answer} {AFF}." if sample.answer else _one_of(AFFORDANCE_ANSWERS, rng)
    else:
        answer = _one_of(SEGMENTATION_ANSWERS, rng) + (f" {sample.answer}" if sample.answer else "")
    return Conversation([(question, answer)], affordance, 1)


def validation_conversation(sample: Sample) -> Conversation:
    """A row as the published validation forces it on the model: [AFF] or [SEG] alone, or behind the row's answer."""
    _check(sample)
    if sample.kind == "template":
        text = AFFORDANCE_VAL.format(sample.category) if sample.category else sample.text
        return Conversation([(text, f"{AFF}.")], True, 1)
    if sample.kind in AFFORDANCE_KINDS:
        return Conversation([(sample.text, f"{sample.answer} {AFF}." if sample.answer else f"{AFF}.")], True, 1)
    return Conversation([(sample.text, f"{SEG}.")], False, 1)


def reworded(text: str, rng: np.random.Generator) -> str:
    """The question in another wording of the published templates, when it is one of theirs; else as it is."""
    for family in FAMILIES:
        for template in family:
            found = _pattern(template).fullmatch(text)
            if found:
                return ask(rng, family, found[1])
    return text


def _pattern(template: str) -> re.Pattern[str]:
    before, after = template.split("{}")
    return re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.DOTALL)


def _rounds(sample: Sample) -> list[tuple[str, str]]:
    return [(question, answer) for question, answer in json.loads(sample.rounds or "[]")]


def _check(sample: Sample) -> None:
    for words in (sample.text, sample.answer, sample.rounds):
        if words and (AFF in words or SEG in words):
            raise AffordAgentError(f"'{words}' (about {sample.image}) holds {AFF} or {SEG}; training puts them in")
    if sample.kind == "vqa" and not sample.answer:
        raise AffordAgentError(f"'{sample.text}' (about {sample.image}) is of the kind vqa and has no answer")


def _one_of(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
