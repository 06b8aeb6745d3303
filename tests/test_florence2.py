"""Florence-2: a tiny random checkpoint, answers read as boxes and outlines, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_grounded_sam2 import MUG, SIZE, filled, picture, table
from tiny_florence2 import write_florence2
from tiny_grounded_sam2 import write_sam2

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.tools.fallback import open_fallback
from affordagent.tools.florence2 import (
    FLORENCE,
    GROUND,
    OUTLINE,
    Florence2,
    Florence2Tool,
    Token,
    boxes_in,
    polygons_in,
)
from affordagent.tools.segmenter import Prompt


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_florence2(tmp_path_factory.mktemp("weights") / "florence")


@pytest.fixture(scope="module")
def model(folder) -> Florence2:
    return Florence2(str(folder))


def tokens(text: str, probability: float = 0.5) -> list[Token]:
    """ "mug<loc_1><loc_2>" as the model writes it, letter by letter."""
    pieces = text.replace("<", "\0<").replace(">", ">\0").split("\0")
    return [Token(t, probability) for piece in pieces for t in ([piece] if piece.startswith("<") else piece)]


def places(*values: int) -> str:
    return "".join(f"<loc_{v}>" for v in values)


def writes(model: Florence2, monkeypatch, answers: dict[str, list[str]]) -> list[list[str]]:
    """Let the model write given answers for each task instead of its own; what it was asked."""
    asked: list[list[str]] = []

    def answer(pictures, texts, new_tokens):
        asked.append(texts)
        task = next(task for task in answers if texts[0].startswith(task))
        assert len(pictures) == len(texts)
        return [tokens(answers[task].pop(0)) for _ in texts]

    monkeypatch.setattr(model, "_answers", answer)
    return asked


def test_a_random_checkpoint_answers_a_batch_as_one_by_one(model):
    pictures = [picture(1), picture(2, (60, 90))]
    asked = [GROUND + "red mug.", GROUND + "a much longer name."]
    together = model._answers(pictures, asked, 24)
    alone = [model._answers([p], [text], 24)[0] for p, text in zip(pictures, asked, strict=True)]
    assert [[t.text for t in answer] for answer in together] == [[t.text for t in answer] for answer in alone]
    assert sum(t.location is not None for answer in together for t in answer) > 4
    assert all(0 < t.probability < 1 for answer in together for t in answer)
    for detections, shown in zip(model.detect(pictures, [["red mug"], ["spoon"]]), pictures, strict=True):
        for d in detections:
            assert 0 <= d.box[0] < d.box[2] <= shown.shape[1]
            assert 0 <= d.box[1] < d.box[3] <= shown.shape[0]
    masks, quality = model.segment(picture(), [Prompt((10, 10, 60, 60)), Prompt((0, 0, 160, 120))])
    assert masks.shape == (2, *SIZE)
    assert ((quality >= 0) & (quality <= 1)).all()


@given(data=st.data())
@settings(max_examples=50)
def test_boxes_are_those_of_the_models_own_reader(model, data):
    boxes = data.draw(st.lists(st.tuples(*[st.integers(0, 999)] * 4), min_size=1, max_size=5))
    names = data.draw(st.lists(st.sampled_from(["mug", "red mug", "hammer"]), min_size=len(boxes), max_size=len(boxes)))
    text = "".join(name + places(*box) for name, box in zip(names, boxes, strict=True))
    ours = boxes_in(tokens(text), SIZE)
    theirs = model._processor.post_process_generation(text, task=GROUND, image_size=SIZE[::-1])[GROUND]
    assert [d.words for d in ours] == theirs["labels"]
    assert np.array([d.box for d in ours]).astype(int).tolist() == theirs["bboxes"]
    assert all(d.score == pytest.approx(0.5) for d in ours)


def test_polygons_are_those_of_the_models_own_reader(model):
    text = places(100, 100, 500, 100, 500, 500, 100, 500) + "<sep>" + places(600, 600, 900, 600, 900, 900)
    ours = polygons_in(tokens(text), SIZE)
    theirs = model._processor.post_process_generation(text, task=OUTLINE, image_size=SIZE[::-1])[OUTLINE]
    assert [p.astype(int).ravel().tolist() for p in ours] == theirs["polygons"][0]
    assert polygons_in(tokens(places(1, 2, 3, 4)), SIZE) == []  # a line is no area


def test_unfinished_and_empty_answers_are_no_boxes():
    assert boxes_in(tokens("mug<loc_1><loc_2><loc_3>"), SIZE) == []
    assert boxes_in(tokens("I see no mug"), SIZE) == []
    assert boxes_in([], SIZE) == []


def test_thing_part_and_outlines_by_florence_alone(model, monkeypatch):
    box = [int(v * 1000 / side) for v, side in zip((40, 30, 100, 90), (160, 120) * 2, strict=True)]
    left, top, right, bottom = box
    asked = writes(
        model,
        monkeypatch,
        {
            GROUND: ["red mug" + places(*box), "handle" + places(700, 200, 900, 800)],
            OUTLINE: [
                places(left, top, right, top, right, bottom, left, bottom),
                places(530, 375, 625, 375, 625, 625, 530, 625),
            ],
        },
    )
    tool = Florence2Tool("florence")
    tool.__dict__["model"] = model
    (found,) = tool.find(*table(filled((40, 30, 100, 90))), MUG)
    overlap = (found.object_mask & filled((40, 30, 100, 90))).sum() / filled((40, 30, 100, 90)).sum()
    assert overlap > 0.98
    assert 250 < found.mask.sum() < 550  # 15 x 30 pixels
    assert found.mask[60, 90]
    assert asked[0] == [GROUND + "red mug."]
    assert asked[1] == [GROUND + "handle."]
    assert asked[2][0] == OUTLINE + places(
        *(int(v * 1000 / s) for v, s in zip(found.evidence["taken"]["box"], (160, 120) * 2, strict=True))
    )
    evidence = json.loads(json.dumps(found.evidence))
    assert evidence["weights"] == {"florence": "florence", "sam2": None}
    assert evidence["part"] == "found"
    assert found.tool == "florence2"
    assert found.presence == pytest.approx(0.75)


def test_words_of_the_person_are_no_tokens_of_the_model(model, monkeypatch):
    asked = writes(model, monkeypatch, {GROUND: [""]})
    assert model.detect([picture()], [["<OD> mug <loc_5>."]]) == [[]]
    assert asked == [[GROUND + "od mug loc_5."]]


def test_nothing_written_is_not_found(model, monkeypatch):
    writes(model, monkeypatch, {GROUND: ["no such thing"]})
    tool = Florence2Tool("florence")
    tool.__dict__["model"] = model
    with pytest.raises(StageFailure) as failure:
        tool.find(*table(), MUG)
    assert failure.value.code == "grounding.not_found"


def test_with_sam2_the_setting_runs_end_to_end(folder, tmp_path, monkeypatch):
    sam2 = write_sam2(tmp_path / "sam2")
    tool = open_fallback(f"florence2:{folder},{sam2}")
    assert isinstance(tool, Florence2Tool)
    tool.load()
    writes(tool.model, monkeypatch, {GROUND: ["mug" + places(250, 250, 625, 750), "handle" + places(0, 0, 300, 900)]})
    (found,) = tool.find(*table(), MUG)
    assert found.mask.any()
    assert found.evidence["weights"]["sam2"] == str(sam2)


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(AffordAgentError, match=f"hf download {FLORENCE}"):
        open_fallback(f"florence2:{tmp_path / 'none'}").load()
    (tmp_path / "half").mkdir()
    for file in folder.iterdir():
        (tmp_path / "half" / file.name).write_bytes(file.read_bytes())
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "image_projection" in name))
    save_file(weights, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AffordAgentError, match="weights are missing"):
        Florence2(str(tmp_path / "half"))
    standard = open_fallback("florence2")
    assert isinstance(standard, Florence2Tool)
    assert (standard.florence, standard.sam2) == (FLORENCE, None)
