"""The published model: the reference's answers, its rules, and the ways it is trained and loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm import conversation
from affordagent.finetune.vlm.pictures import clip_pixels, sam_pixels
from affordagent.finetune.vlm.predictor import VlmPredictor
from affordagent.finetune.vlm.tiny import write_tiny_vlm

REFERENCE = Path(__file__).parents[1].parent / "shared" / "data" / "affordancevlm_tiny"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no reference outputs at {REFERENCE}")
QUESTION = "What is the affordance map of hammer in this image?"
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def reference() -> VlmPredictor:
    return VlmPredictor(REFERENCE / "ckpt")  # the tower lies beside it; config.json names the hub's


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> VlmPredictor:
    return VlmPredictor(*write_tiny_vlm(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)


def case(name: str) -> tuple[np.ndarray, dict, dict]:
    rows = json.loads((REFERENCE / "reference" / "reference.json").read_text())["cases"]
    row = next(r for r in rows if r["id"] == name)
    image = np.array(Image.open(REFERENCE / "inputs" / row["image"]).convert("RGB"))
    return image, row, dict(np.load(REFERENCE / "reference" / f"{name}.npz"))


@needs_reference
@pytest.mark.parametrize("name", ["a0", "a3", "a1", "a4", "a2", "a5"])  # the same picture twice in a row
def test_answers_equal_the_reference(reference, name):
    image, row, expected = case(name)
    for use_cache in (True, False):
        answer = reference.answer(image, row["question"], use_cache=use_cache)
        assert np.array_equal(answer.output_ids, expected["output_ids"])
        assert answer.mask_logits.dtype == np.float32
        assert answer.mask_logits.shape == expected["pred_masks"].shape
        assert np.abs(answer.mask_logits - expected["pred_masks"]).max(initial=0) < TOLERANCE / 50
        assert np.array_equal(answer.masks, answer.mask_logits > 0)


@needs_reference
def test_inner_values_equal_the_reference(reference):
    image, row, expected = case("a0")
    ids = torch.tensor([row["output_ids"][:-1]])
    patches = reference.network.encode_clip(clip_pixels(image)[None])
    hidden = reference.network.model(inputs_embeds=reference.network.embed(ids, patches))[0][0]
    assert hidden.shape == (ids.shape[1] + 255, 64)
    assert np.abs(hidden[::16].numpy() - expected["hidden_every16"]).max() < 1e-4
    positions = reference.network.mask_positions(torch.tensor(row["output_ids"]))
    assert positions.tolist() == row["hidden_index_used"]
    assert np.abs(hidden[positions].numpy() - expected["hidden_at_token"]).max() < 1e-4


@needs_reference
def test_a_given_reply_equals_the_reference(reference):
    image, row, expected = case("a0")
    forced = np.load(REFERENCE / "reference" / "a0_teacher_forced.npz")
    answer = reference.teacher_forced(image, row["question"], "It is [AFF].")
    assert np.array_equal(answer.output_ids, forced["input_ids"])
    assert np.abs(answer.mask_logits - forced["pred_masks"].astype(np.float32)).max() < TOLERANCE  # stored as float16
    assert np.abs(answer.mask_logits - expected["pred_masks"]).max() < TOLERANCE / 50


def test_cache_equals_no_cache_on_long_answers(tiny, picture):
    ids = torch.tensor([tiny.tokens.encode(conversation.prompt(QUESTION))])
    embeds = tiny.network.embed(ids, tiny.network.encode_clip(clip_pixels(picture)[None]))
    mask = torch.ones(embeds.shape[:2], dtype=torch.bool)
    mask[0, 300] = False
    for attention in (None, mask):
        said, kept = tiny.network.generate(embeds, attention, eos=-1, max_new_tokens=40)
        again, whole = tiny.network.generate(embeds, attention, eos=-1, max_new_tokens=40, use_cache=False)
        assert said == again
        assert len(set(said)) > 5
        assert kept.shape == (embeds.shape[1] + 39, 32)
        assert (kept - whole).abs().max() < 1e-4
    open_, _ = tiny.network.generate(embeds, None, eos=-1, max_new_tokens=40)
    assert tiny.network.generate(embeds, None, eos=open_[3], max_new_tokens=40)[0] == open_[: open_.index(open_[3]) + 1]


def test_tokens_in_the_question_give_masks_too(tiny, picture):
    cached = tiny.answer(picture, "Where are [SEG] and [AFF]?", max_new_tokens=4)
    plain = tiny.answer(picture, "Where are [SEG] and [AFF]?", max_new_tokens=4, use_cache=False)
    found = np.isin(cached.output_ids, tiny.network.shape.mask_ids).sum()
    assert cached.mask_logits.shape == (found, 60, 80)
    assert found >= 2
    assert np.abs(cached.mask_logits[0] - cached.mask_logits[1]).max() > 0.01
    assert np.abs(cached.mask_logits - plain.mask_logits).max() < 1e-4


def test_two_masks_in_a_reply_come_in_order_of_appearance(tiny, picture):
    both = tiny.teacher_forced(picture, QUESTION, "It is [SEG] and [AFF].").mask_logits
    first = tiny.teacher_forced(picture, QUESTION, "It is [SEG]").mask_logits
    assert both.shape == (2, 60, 80)
    assert np.abs(both[:1] - first).max() < 1e-5
    assert np.abs(both[1] - both[0]).max() > 0.01


def test_a_mask_hangs_on_the_word_before_its_token(tiny, picture):
    replies = ("It is [AFF].", "It is [SEG]", "It is its [AFF]")
    masks = [tiny.teacher_forced(picture, QUESTION, reply).mask_logits for reply in replies]
    assert np.abs(masks[0] - masks[1]).max() < 1e-5  # the state that predicts the token, whatever comes
    assert np.abs(masks[0] - masks[2]).max() > 0.01


def test_no_token_no_mask(tiny, picture):
    answer = tiny.teacher_forced(picture, QUESTION, "I see a kettle.")
    assert answer.mask_logits.shape == (0, 60, 80)
    assert answer.masks.dtype == bool
    assert answer.text == "I see a kettle."


def test_the_token_may_be_the_first_word_of_the_answer(tiny, picture):
    """Its state is the prompt's last: the step that reads the prompt emits it."""
    prompt = tiny.tokens.encode(conversation.prompt(QUESTION))
    ids = torch.tensor([*prompt, tiny.tokens.added["[AFF]"]])
    assert tiny.network.mask_positions(ids).tolist() == [len(prompt) - 1 + 255]
    answer = tiny.teacher_forced(picture, QUESTION, "[AFF]")
    assert len(answer.mask_logits) == 1


def test_unknown_tokens_are_not_attended_to(tiny, picture):
    """The reference masks every id equal to its padding id, which is the unknown token's."""
    rows = tiny.network.model.embed_tokens.weight
    for word, matters in (("<unk>", False), ("</s>", True)):
        before = tiny.teacher_forced(picture, f"Where is {word} hammer?", "It is [AFF].")
        token = tiny.tokens.encode(word)[1]
        assert token in before.output_ids
        rows[token] += 3
        after = tiny.teacher_forced(picture, f"Where is {word} hammer?", "It is [AFF].")
        rows[token] -= 3
        assert bool(np.abs(after.mask_logits - before.mask_logits).max() > 1e-5) == matters


def test_the_same_picture_is_looked_at_once(tiny, picture):
    other = picture[:, ::-1].copy()
    assert "sam" in tiny.answer(other, QUESTION, max_new_tokens=1).timings_s
    first = tiny.teacher_forced(picture, QUESTION, "It is [AFF].")
    again = tiny.teacher_forced(picture.copy(), QUESTION, "It is [AFF].")
    assert "sam" in first.timings_s
    assert "sam" not in again.timings_s
    assert np.array_equal(first.mask_logits, again.mask_logits)


def test_what_cannot_be_asked(tiny, picture):
    with pytest.raises(AffordAgentError, match="max_new_tokens is 0"):
        tiny.answer(picture, QUESTION, max_new_tokens=0)
    with pytest.raises(AffordAgentError, match="empty"):
        tiny.answer(picture, " ")
    with pytest.raises(AffordAgentError, match="uint8"):
        tiny.answer(picture / 255, QUESTION)


def test_training_pass_equals_the_predictor_and_has_gradients(tmp_path, picture):
    predictor = VlmPredictor(*write_tiny_vlm(tmp_path, seed=1))
    network, tokens = predictor.network, predictor.tokens
    turns = [[(QUESTION, "It is [AFF].")], [("Can you segment the mug, the pan and the knife?", "[SEG] and [AFF].")]]
    rows = [conversation.labelled_ids(tokens, turn) for turn in turns]
    length = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([i + [tokens.unk] * (length - len(i)) for i, _ in rows])
    labels = torch.tensor([y + [conversation.IGNORE] * (length - len(y)) for _, y in rows])
    pixels, resized = sam_pixels(picture)
    network.requires_grad_(True)
    out = network(
        ids, clip_pixels(picture)[None], pixels[None], resized=[resized], sizes=[(60, 80)], labels=labels,
        attention_mask=ids != tokens.unk, picture_of=torch.tensor([0, 0]),
    )  # fmt: skip
    assert out.logits.shape == (2, length + 255, network.shape.llama.vocab_size)
    for turn, masks in zip(turns, out.mask_logits, strict=True):
        expected = predictor.teacher_forced(picture, *turn[0])
        assert np.abs(masks.detach().numpy() - expected.mask_logits).max() < 1e-4
    said = (labels != conversation.IGNORE).nonzero().tolist()
    steps = [torch.log_softmax(out.logits[b, t + 255 - 1], -1)[labels[b, t]] for b, t in said]
    assert torch.allclose(out.ce_loss, -torch.stack(steps).mean(), atol=1e-5)
    (out.ce_loss + sum(m.square().mean() for m in out.mask_logits)).backward()
    for part in (
        network.lm_head, network.model.embed_tokens, network.model.layers[0].self_attn.q_proj,
        network.model.text_hidden_fcs[0][0], network.model.visual_model.mask_decoder.mask_tokens,
    ):  # fmt: skip
        assert part.weight.grad.abs().sum() > 0
    assert network.vision_tower.embeddings.patch_embedding.weight.grad is None
    assert network.model.visual_model.image_encoder.pos_embed.grad is None


def test_a_row_needs_its_one_picture(tiny):
    with pytest.raises(ValueError, match="exactly one picture"):
        tiny.network.embed(torch.tensor([[1, 5, 6]]), torch.zeros(1, 256, 32))
