"""From rows to a micro-batch: what is said, what is learned of it, pictures and masks."""

import json

import cv2
import numpy as np
import pytest
import torch

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.questions import AFFORDANCE, EXPLANATION, SEGMENTATION, SENTENCE
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.vlm.answers import (
    ABSENT_ANSWERS,
    AFFORDANCE_ANSWERS,
    SEGMENTATION_ANSWERS,
    reworded,
    training_conversation,
    validation_conversation,
)
from affordagent.finetune.vlm.collate import TrainingExamples, collate
from affordagent.finetune.vlm.config import GROUP_RATES
from affordagent.finetune.vlm.conversation import IGNORE, PREFIX
from affordagent.finetune.vlm.mixture import Mixture
from affordagent.finetune.vlm.pictures import clip_pixels, sam_pixels
from affordagent.finetune.vlm.tiny import write_tiny_vlm
from affordagent.finetune.vlm.tokens import Tokens

SIZE = (60, 80)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory) -> Tokens:
    return Tokens.load(write_tiny_vlm(tmp_path_factory.mktemp("tiny"))[0])


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:25, 10:30] = True
    return mask


@pytest.fixture(scope="module")
def picture(tmp_path_factory, mask) -> str:
    image = np.random.default_rng(0).integers(0, 90, (*SIZE, 3), dtype=np.uint8)
    image[mask] = (240, 60, 30)
    file = tmp_path_factory.mktemp("pictures") / "one.png"
    cv2.imwrite(str(file), image[..., ::-1])
    return str(file)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def says(sample: Sample, n: int = 60) -> list[tuple[str, str]]:
    return [training_conversation(sample, rng(seed)).turns[0] for seed in range(n)]


@pytest.mark.parametrize("family", [AFFORDANCE, SEGMENTATION, SENTENCE, EXPLANATION])
def test_a_question_of_the_templates_comes_in_all_their_wordings(family):
    for template in family:
        words = {reworded(template.format("red mug"), rng(seed)) for seed in range(60)}
        assert words == {one.format("red mug") for one in family}


def test_other_questions_stay_as_they_are(mask):
    for text in ("I am thirsty.", "pick up the red mug"):
        assert {reworded(text, rng(seed)) for seed in range(5)} == {text}
    hard = Sample("x", "Can you segment the one to drink from in this image?", mask="m", answer="Hold it.", kind="hard")
    assert {question for question, _ in says(hard)} == {hard.text}


def test_answers_by_kind():
    template = Sample("x", AFFORDANCE[0].format("mug"), mask="m", category="mug")
    assert {answer for _, answer in says(template)} == set(AFFORDANCE_ANSWERS)
    semantic = Sample("x", SEGMENTATION[0].format("sky"), mask="m", kind="semantic")
    assert {answer for _, answer in says(semantic)} == set(SEGMENTATION_ANSWERS)
    hard = Sample("x", "I am thirsty.", mask="m", answer="Take the mug by its handle.", kind="hard")
    assert {answer for _, answer in says(hard)} == {"Take the mug by its handle. [AFF]."}
    assert {answer for _, answer in says(Sample("x", "I am thirsty.", mask="m", kind="hard"))} == set(
        AFFORDANCE_ANSWERS
    )
    reason = Sample("x", EXPLANATION[0].format("Which is hot?"), mask="m", answer="The pot.", kind="reasoning")
    assert {answer for _, answer in says(reason)} == {f"{one} The pot." for one in SEGMENTATION_ANSWERS}
    absent = training_conversation(Sample("x", "pick up the mug"), rng())
    assert absent.turns[0][1] in ABSENT_ANSWERS
    assert absent.masks == 0


def test_the_prefix_is_said_to_affordance_questions_alone():
    assert training_conversation(Sample("x", "q", mask="m", kind="easy"), rng()).prefix
    assert not training_conversation(Sample("x", "q", mask="m", kind="referring"), rng()).prefix
    assert not training_conversation(Sample("x", "q", answer="a", kind="vqa"), rng()).prefix


def test_conversations_go_on():
    row = Sample("x", "What is it?", answer="A mug.", rounds=json.dumps([["Why?", "It is."]]), kind="vqa")
    assert training_conversation(row, rng()).turns == [("What is it?", "A mug."), ("Why?", "It is.")]


def test_validation_says_what_the_published_one_says():
    def turn(**kind):
        return validation_conversation(Sample("x", "its own text", mask="m", **kind)).turns[0]

    assert turn(category="mug") == ("What is the affordance map of mug in this image?", "[AFF].")
    assert turn(kind="hard", answer="Take the mug.") == ("its own text", "Take the mug. [AFF].")
    assert turn(kind="reasoning", answer="The pot.") == ("its own text", "[SEG].")


def test_words_of_a_row_may_not_hold_the_tokens():
    with pytest.raises(AffordAgentError, match=r"holds \[AFF\] or \[SEG\]"):
        training_conversation(Sample("x", "Where is [AFF]?", mask="m"), rng())
    with pytest.raises(AffordAgentError, match="has no answer"):
        training_conversation(Sample("x", "Why?", kind="vqa"), rng())


def examples_of(rows, tokens, max_length=512, seed=0) -> TrainingExamples:
    return TrainingExamples(Mixture(rows, GROUP_RATES, {}, seed=seed), tokens, max_length)


def test_an_example_holds_pictures_ids_labels_and_masks(picture, mask, tokens):
    row = Sample(picture, AFFORDANCE[0].format("mug"), mask_rle=encode_rle(mask), category="mug")
    one = examples_of([row], tokens)[5]
    image = cv2.imread(picture)[..., ::-1].copy()
    assert torch.equal(one.clip, clip_pixels(image))
    assert torch.equal(one.sam, sam_pixels(image)[0])
    assert (one.k, one.resized, one.size) == (5, (768, 1024), SIZE)
    assert np.array_equal(one.masks[0].numpy(), mask[None])
    learned = one.labels[0] != IGNORE
    assert torch.equal(one.labels[0][learned], one.ids[0][learned])
    said = tokens.decode(one.ids[0][learned].tolist())
    assert said.endswith("</s>")
    assert "[AFF]" in said
    assert "affordance map of mug" not in said
    whole = tokens.decode(one.ids[0].tolist())
    assert PREFIX in whole
    assert "affordance map of mug" in whole


def test_flips_turn_picture_and_mask_alike(picture, mask, tokens):
    row = Sample(picture, "q", mask_rle=encode_rle(mask), category="jar", source="rlbench")
    examples = examples_of([row], tokens)
    flips = {examples.mixture.draw(k).flip: k for k in range(40)}
    assert set(flips) == {None, -1, 0, 1}
    straight = examples[flips[None]]
    for flip, axes in ((-1, (0, 1)), (0, (0,)), (1, (1,))):
        one = examples[flips[flip]]
        assert np.array_equal(one.masks[0][0].numpy(), np.flip(mask, axes))
        assert torch.equal(one.clip, torch.flip(straight.clip, [axis + 1 for axis in axes]))
        rows, columns = np.nonzero(one.masks[0][0].numpy())
        inside = one.sam[0, rows.min() * 1024 // 80 + 8, columns.min() * 1024 // 80 + 8]
        assert inside > straight.sam[0, 700, 900] + 1  # the red block went with its mask


def test_a_batch_knows_whose_picture_a_conversation_is_about(picture, mask, tokens):
    rle = encode_rle(mask)
    thing = [Sample(picture, f"What is {c} in this image?", mask_rle=rle, kind="semantic", source="s") for c in "abcd"]
    vqa = [Sample(picture, "What tool do you see?", answer="I see a kettle.", kind="vqa", source="llava")]
    pair = [examples_of(thing, tokens)[0], examples_of(vqa, tokens)[1]]
    batch = collate(pair, tokens.unk)
    assert batch.picture_of.tolist() == [0, 0, 0, 1]
    assert [tuple(m.shape) for m in batch.masks] == [(1, *SIZE)] * 3 + [(0, *SIZE)]
    assert batch.numbers == [0, 1]
    assert batch.input_ids.shape == batch.labels.shape == batch.attention_mask.shape
    assert torch.equal(batch.attention_mask, batch.input_ids != tokens.unk)
    short = len(pair[1].ids[0])
    assert torch.equal(batch.input_ids[3, :short], pair[1].ids[0])
    assert (batch.labels[3, short:] == IGNORE).all()
    assert not batch.attention_mask[3, short:].any()


def test_long_conversations_are_cut_with_their_masks(picture, mask, tokens):
    answer = "the handle " * 300
    row = Sample(picture, "I am thirsty.", mask_rle=encode_rle(mask), answer=answer, category="mug", kind="hard")
    one = examples_of([row], tokens)[0]
    assert len(one.ids[0]) == len(one.labels[0]) == 512 - 255
    assert one.masks[0].shape == (0, *SIZE)  # its [AFF] came behind the answer
    whole = examples_of([row], tokens, max_length=10_000)[0]
    assert whole.masks[0].shape == (1, *SIZE)
    with pytest.raises(AffordAgentError, match="so long that nothing of its answer is left of 512 tokens"):
        examples_of([Sample(picture, answer, mask_rle=encode_rle(mask), category="mug")], tokens)[0]


def test_the_same_number_is_the_same_example(picture, mask, tokens):
    row = Sample(picture, AFFORDANCE[0].format("mug"), mask_rle=encode_rle(mask), category="jar", source="rlbench")
    for k in range(4):
        one, two = examples_of([row], tokens)[k], examples_of([row], tokens)[k]
        assert torch.equal(one.ids[0], two.ids[0])
        assert torch.equal(one.sam, two.sam)
    wordings = {tuple(examples_of([row], tokens)[k].ids[0].tolist()) for k in range(12)}
    assert len(wordings) > 4
