"""What is said about a row to the mini model and to a published one."""

import pytest

from affordagent.evaluations.segmentation_words import Question, Request, question_of, request_of
from affordagent.finetune.data.schema import Sample


def row(text, kind="template", **given):
    return Sample("picture.png", text, kind=kind, **given)


PART, WHOLE = False, True
MASK = "Please output segmentation mask."


@pytest.mark.parametrize(
    ("text", "kind", "said", "whole"),
    [
        ("What is the affordance map of mug in this image?", "template", "pick up the mug", PART),
        ("Can you segment the affordance map of soup ladle in this image?", "template", "pick up the soup ladle", PART),
        ("the mustard bottle", "template", "pick up the mustard bottle", PART),
        ("green bowl", "template", "pick up the green bowl", PART),
        ("segment the bowl", "template", "pick up the bowl", WHOLE),
        ("the whole mug", "template", "pick up the whole mug", WHOLE),
        ("the handle of the red mug", "referring", "pick up the handle of the red mug", PART),
        ("the red mug", "referring", "pick up the red mug", WHOLE),
        (f"What is banana in this image? {MASK}", "semantic", "pick up the banana", WHOLE),
        (f"Which one can hold tea? {MASK}", "reasoning", "Which one can hold tea?", WHOLE),
        ("I have to drive a nail into the wall.", "hard", "I have to drive a nail into the wall.", PART),
        ("Hand me the hammer, please.", "easy", "Hand me the hammer, please.", PART),
    ],
)
def test_request(text, kind, said, whole):
    assert request_of(row(text, kind)) == Request(said, whole)


@pytest.mark.parametrize(
    ("text", "kind", "given", "asked", "prefix", "reply"),
    [
        (
            "Please segment the affordance map of mug in this image.",
            "template",
            {"category": "mug"},
            "What is the affordance map of mug in this image?",
            True,
            "[AFF].",
        ),
        ("the red mug", "template", {}, "What is the affordance map of red mug in this image?", True, "[AFF]."),
        ("Pour me some tea.", "template", {}, "Pour me some tea.", True, "[AFF]."),
        (
            "I want to drive a nail.",
            "hard",
            {"category": "hammer", "answer": "Hold the hammer by its handle."},
            "I want to drive a nail.",
            True,
            "Hold the hammer by its handle. [AFF].",
        ),
        ("Please segment the sky.", "semantic", {}, "Please segment the sky.", False, "[SEG]."),
        ("left cup", "referring", {}, f"What is left cup in this image? {MASK}", False, "[SEG]."),
        ("Where does the tea go?", "reasoning", {}, f"Where does the tea go? {MASK}", False, "[SEG]."),
    ],
)
def test_question(text, kind, given, asked, prefix, reply):
    assert question_of(row(text, kind, **given)) == Question(asked, prefix, reply)
