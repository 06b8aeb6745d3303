"""The published model's tokenizer, conversation and picture recipes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm import conversation
from affordagent.finetune.vlm.pictures import clip_pixels, sam_pixels, sam_size
from affordagent.finetune.vlm.tiny import write_tiny_vlm
from affordagent.finetune.vlm.tokens import IMAGE_ID, Tokens

REFERENCE = Path(__file__).parents[1].parent / "shared" / "data" / "affordancevlm_tiny"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no reference outputs at {REFERENCE}")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory) -> Tokens:
    ckpt, _ = write_tiny_vlm(tmp_path_factory.mktemp("tokens"))
    return Tokens.load(ckpt)


def cases() -> list[dict]:
    return json.loads((REFERENCE / "reference" / "reference.json").read_text())["cases"]


@needs_reference
def test_ids_and_texts_equal_the_reference():
    tokens = Tokens.load(REFERENCE / "ckpt")
    for case in cases():
        assert conversation.prompt(case["question"]) == case["full_prompt"]
        assert tokens.encode(case["full_prompt"]) == case["input_ids"]
        assert tokens.decode(case["new_ids"]) == case["new_text_raw"]
        assert tokens.printed(case["output_ids"]) == case["text_output_of_chat"]
        shown = case["text_output_of_chat"].split("ASSISTANT: ")[-1].replace("</s>", "")
        assert tokens.answer(case["output_ids"]) == shown


@needs_reference
def test_pictures_equal_the_reference_bit_for_bit():
    for name in ("bench", "square", "tall"):
        image = np.array(Image.open(REFERENCE / "inputs" / f"{name}.png").convert("RGB"))
        expected = np.load(REFERENCE / "reference" / "preproc" / f"{name}.npz")
        assert np.array_equal(clip_pixels(image).numpy(), expected["clip_pixel_values"])
        pixels, resized = sam_pixels(image)
        assert np.array_equal(pixels.numpy()[:, ::8, ::8], expected["sam_input_every8"])
        assert not pixels[:, resized[0] :].any()
        assert not pixels[:, :, resized[1] :].any()


def test_white_space_at_added_tokens_vanishes_but_not_at_special_ones(tokens):
    aff = tokens.added["[AFF]"]
    plain = tokens.encode("It is")[1:]
    assert tokens.encode("It is \n [AFF] \t It is") == [tokens.bos, *plain, aff, *plain]
    assert tokens.encode("It is</s>It is") == [tokens.bos, *plain, tokens.eos, *plain]
    assert tokens.encode("It is </s>It is") != tokens.encode("It is</s>It is")
    assert tokens.decode([aff, *plain, tokens.eos]) == "[AFF]  It is</s>"  # the space of "</s>" stands before its run


def test_every_piece_starts_a_word_of_its_own(tokens):
    start, end = tokens.added["<im_start>"], tokens.added["<im_end>"]
    ids = tokens.encode("A <im_start><image><im_end>\nYou")
    assert ids == [tokens.bos, *tokens.encode("A")[1:], start, IMAGE_ID, end, *tokens.encode("You")[1:]]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_has_ids_inside_the_vocabulary(tokens, text):
    ids = tokens.encode(text.replace("<image>", ""))
    assert ids[0] == tokens.bos
    assert all(0 <= i < len(tokens) for i in ids)
    assert isinstance(tokens.printed(ids), str)


def test_labels_are_what_the_assistant_says(tokens):
    turns = [("What tool do you see?", "I see a kettle."), ("What is the part to hold?", "It is [AFF].")]
    ids, labels = conversation.labelled_ids(tokens, turns)
    said = [i for i in labels if i != conversation.IGNORE]
    assert said == [i for _, answer in turns for i in (*tokens.encode(answer)[1:], tokens.eos)]
    assert len(ids) == len(labels)
    assert all(label in (i, conversation.IGNORE) for i, label in zip(ids, labels, strict=True))
    assert ids.count(IMAGE_ID) == 1
    asked = tokens.encode(conversation.prompt(turns[0][0]))
    assert ids[: len(asked)] == asked
    assert set(labels[: len(asked)]) == {conversation.IGNORE}


def test_an_answer_that_is_only_the_token(tokens):
    ids, labels = conversation.labelled_ids(tokens, [("Where is the mug?", "[AFF]")])
    assert [i for i in labels if i != conversation.IGNORE] == [tokens.added["[AFF]"], tokens.eos]


@pytest.mark.parametrize("text", ["", "  \n", "what is in <image>?"])
def test_texts_that_cannot_be_asked(tokens, text):
    with pytest.raises(AffordAgentError):
        conversation.prompt(text)
    with pytest.raises(AffordAgentError):
        conversation.labelled_ids(tokens, [("What tool do you see?", text)])


def test_the_prefix_can_be_left_out():
    asked = conversation.prompt("What is it?", prefix=False)
    assert asked.endswith("<im_end>\nWhat is it? ASSISTANT:")
    assert asked == conversation.prompt("What is it?").replace(conversation.PREFIX, "")


def test_newer_tokenizer_files_are_read_too(tokens, tmp_path):
    ckpt, _ = write_tiny_vlm(tmp_path)
    added = json.loads((ckpt / "added_tokens.json").read_text())
    (ckpt / "added_tokens.json").unlink()
    rows = {"1": "<s>", "2": "</s>"} | {str(i): text for text, i in added.items()}
    decoder = {i: {"content": text} for i, text in rows.items()}
    (ckpt / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    assert Tokens.load(ckpt).added == added


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("added_tokens.json", '{"[SEG]": 900}', r"\[AFF\] is not in the vocabulary"),
        ("added_tokens.json", "[1]", "must hold a JSON object"),
        ("tokenizer.model", "no model", "not a sentencepiece model"),
        ("tokenizer.model", None, "no tokenizer.model"),
        ("tokenizer_config.json", '{"legacy": false}', "legacy"),
    ],
)
def test_broken_tokenizers(tmp_path, file, text, message):
    ckpt, tower = write_tiny_vlm(tmp_path)
    shutil.rmtree(tower)
    (ckpt / file).unlink()
    if text is not None:
        (ckpt / file).write_text(text)
    with pytest.raises(AffordAgentError, match=message):
        Tokens.load(ckpt)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400))
def test_any_picture_fits(height, width):
    image = np.full((height, width, 3), 128, np.uint8)
    rows, columns = sam_size(height, width)
    assert clip_pixels(image).shape == (3, 224, 224)
    assert max(rows, columns) == 1024
    assert min(rows, columns) >= 1


def test_no_pictures():
    for image in (
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 3000, 3), np.uint8),
    ):
        with pytest.raises(AffordAgentError):
            clip_pixels(image)
