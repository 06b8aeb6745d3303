"""Zero-shot grounding: tiny random checkpoints, crops, evidence, the original weights, and what is missing."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_grounded_sam2 import write_dino, write_sam2

from affordagent.agent.session import Tools
from affordagent.agent.settings import Settings
from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import Candidate, FunctionalQuery, ObjectProposal, RgbdFrame, TableScene, box_of
from affordagent.tools.detection import DINO, BoxDetector, Detection, prompt_of
from affordagent.tools.fallback import ROWS, open_fallback
from affordagent.tools.grounded_sam2 import GroundedSam2Tool
from affordagent.tools.grounding_dino_pth import hub_names, read_pth
from affordagent.tools.segmenter import SAM2, Prompt, Segmenter
from affordagent.tools.sightings import box_iou, crop_around, names_of, probability_of
from affordagent.tools.tabletop import TabletopTool
from affordagent.tools.vlm import open_grounder

SIZE = (120, 160)
REFERENCE = Path(__file__).parent / "data" / "grounding_dino_reference.json"
MUG = FunctionalQuery(
    text="the red mug by its handle",
    intent="pick",
    category="mug",
    candidates=[Candidate(name="mug", score=0.9, known=True)],
    object_words="mug",
    part="handle",
    attributes={"colour": "red", "position": "left"},
)
THING, PART = (40.0, 30.0, 100.0, 90.0), (85.0, 45.0, 100.0, 75.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return write_dino(folder / "dino"), write_sam2(folder / "sam2")


@pytest.fixture(scope="module")
def random_tool(folders) -> GroundedSam2Tool:
    tool = GroundedSam2Tool(*map(str, folders))
    tool.load()
    return tool


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def table(*masks: np.ndarray) -> tuple[RgbdFrame, TableScene]:
    camera = CameraIntrinsics(SIZE[1], SIZE[0], 150.0, 150.0, 79.5, 59.5)
    frame = RgbdFrame(picture(), np.full(SIZE, 0.8, np.float32), camera)
    proposals = [ObjectProposal(7 + i, mask, box_of(mask)) for i, mask in enumerate(masks)]
    return frame, TableScene(np.array([0.0, 0, -1, 0.8]), np.zeros(SIZE, np.float32), proposals)


def filled(box: tuple[float, ...]) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    x0, y0, x1, y1 = (round(v) for v in box)
    mask[y0:y1, x0:x1] = True
    return mask


class Boxes:
    """A detector that sees given things in the whole picture and given parts in each crop."""

    def __init__(self, things: list[Detection], parts: list[list[Detection]] | None = None) -> None:
        self.things, self.parts, self.asked = things, parts or [], []

    def detect(self, pictures, names, above, words_above, shown_px=800):
        self.asked.append(([p.shape[:2] for p in pictures], [list(n) for n in names], above))
        return [self.things] if len(self.asked) == 1 else self.parts


class Rectangles:
    """A segmenter whose masks are the boxes."""

    def __init__(self, iou: float = 0.9, blank: bool = False) -> None:
        self.iou, self.blank = iou, blank

    def segment(self, color, prompts):
        masks = np.stack([filled(prompt.box) & (not self.blank) for prompt in prompts])
        return masks, np.full(len(prompts), self.iou)


def scripted(boxes: Boxes, masks: Rectangles) -> GroundedSam2Tool:
    tool = GroundedSam2Tool("dino", "sam2")
    tool.__dict__.update(detector=boxes, segmenter=masks)
    return tool


def in_crop(box: tuple[float, ...], thing: tuple[float, ...] = THING) -> tuple[float, ...]:
    crop = crop_around(thing, *SIZE)
    return box[0] - crop.x0, box[1] - crop.y0, box[2] - crop.x0, box[3] - crop.y0


# The models


def test_boxes_lie_in_the_picture_and_carry_words_of_the_prompt(random_tool):
    detector: BoxDetector = random_tool.detector
    pictures = [picture(1), picture(2, (60, 90)), picture(3), picture(4), picture(5, (200, 80))]  # two batches
    found = detector.detect(pictures, [["red mug", "spoon"]] * 5, 0.05, 0.05)
    assert len(found) == 5
    assert sum(map(len, found)) > 0
    for detections, shown in zip(found, pictures, strict=True):
        assert [d.score for d in detections] == sorted((d.score for d in detections), reverse=True)
        for d in detections:
            assert 0 <= d.box[0] < d.box[2] <= shown.shape[1]
            assert 0 <= d.box[1] < d.box[3] <= shown.shape[0]
            assert set(d.words.split()) <= {"red", "mug", "spoon"}
        assert all(box_iou(a.box, b.box) <= 0.7 for i, a in enumerate(detections) for b in detections[:i])


def test_a_picture_gets_the_same_boxes_alone_and_in_a_batch(random_tool):
    pictures = [picture(1), picture(2)]
    alone = random_tool.detector.detect(pictures[:1], [["mug"]], 0.05, 0.25)[0]
    together = random_tool.detector.detect(pictures, [["mug"], ["a much longer name"]], 0.05, 0.25)[0]
    assert len(alone) == len(together) > 0
    np.testing.assert_allclose([d.box for d in alone], [d.box for d in together], atol=0.05)


def test_a_higher_threshold_keeps_the_better_boxes_only(random_tool):
    low = random_tool.detector.detect([picture()], [["mug"]], 0.02, 0.25)[0]
    cut = float(np.median([d.score for d in low]))
    high = random_tool.detector.detect([picture()], [["mug"]], cut, 0.25)[0]
    assert 0 < len(high) < len(low)
    assert all(d.score > cut for d in high)
    assert random_tool.detector.detect([picture()], [["mug"]], 1.0, 0.25) == [[]]


def test_masks_have_the_pictures_size_and_a_predicted_iou(random_tool):
    segmenter: Segmenter = random_tool.segmenter
    masks, iou = segmenter.segment(picture(), [Prompt(THING), Prompt(PART), Prompt((0, 0, 159, 119))])
    assert masks.shape == (3, *SIZE)
    assert masks.dtype == bool
    assert iou.shape == (3,)
    assert ((iou >= 0) & (iou <= 1)).all()
    alone, _ = segmenter.segment(picture(), [Prompt(PART)])
    assert (alone[0] == masks[1]).mean() > 0.999  # prompts do not see each other


def test_the_pipelines_input_goes_through_both_models(random_tool, monkeypatch):
    for name in ("object_above", "part_above"):
        monkeypatch.setattr(random_tool, name, 0.02)
    parts = random_tool.find(*table(filled(THING)), MUG)
    assert parts
    for part in parts:
        assert part.mask.shape == part.object_mask.shape == SIZE
        assert part.mask.any()
        assert not (part.mask & ~part.object_mask).any()
        assert 0 <= part.confidence <= part.is_there <= 1
        assert json.loads(json.dumps(part.evidence))["names"] == ["red mug"]
    assert [p.confidence for p in parts] == sorted((p.confidence for p in parts), reverse=True)


# From words to boxes to masks


def test_the_part_is_looked_for_in_the_things_crop_and_given_in_the_picture():
    boxes = Boxes([Detection(THING, 0.65, "red mug")], [[Detection(in_crop(PART), 0.5, "handle")]])
    (found,) = scripted(boxes, Rectangles()).find(*table(filled((5, 5, 20, 20)), filled(THING)), MUG)
    assert (found.mask == filled(PART)).all()
    assert (found.object_mask == filled(THING)).all()
    (sizes, names, _), (crop_sizes, part_names, _) = boxes.asked
    assert (sizes, names) == ([SIZE], [["red mug"]])
    assert (crop_sizes, part_names) == ([(78, 78)], [["handle"]])  # 60 pixels and 15 % on both sides
    evidence = found.evidence
    assert evidence["part_taken"] == {"box": list(PART), "score": 0.5, "words": "handle"}
    assert evidence["detections"] == [{"box": list(THING), "score": 0.65, "words": "red mug"}]
    assert (evidence["part"], evidence["proposal"], evidence["proposal_iou"]) == ("found", 8, 1.0)
    assert evidence["attributes_ignored"] == ["position"]
    terms = evidence["confidence_terms"]
    assert terms == {"object": 0.75, "part": pytest.approx(2 / 3, abs=1e-3), "mask": 0.9}
    assert found.confidence == pytest.approx(0.75 * 0.9 * 2 / 3)
    assert found.presence == pytest.approx(0.75)


def test_proposals_do_not_filter():
    boxes = Boxes([Detection(THING, 0.65, "red mug")])
    (found,) = scripted(boxes, Rectangles()).find(*table(), MUG.model_copy(update={"part": None}))
    assert (found.evidence["proposal"], found.evidence["proposal_iou"]) == (None, 0.0)
    assert (found.evidence["part"], found.evidence["part_asked"]) == ("whole object", None)
    assert (found.mask == filled(THING)).all()
    assert len(boxes.asked) == 1  # without a part word nobody looks for a part
    assert found.confidence == pytest.approx(0.75 * 0.9)


@pytest.mark.parametrize("seen", [[], [THING], [(0.0, 0.0, 20.0, 20.0)]], ids=["none", "whole", "off the thing"])
def test_a_part_that_was_not_found_halves_the_confidence(seen):
    boxes = Boxes([Detection(THING, 0.65, "red mug")], [[Detection(in_crop(box), 0.9, "handle") for box in seen]])
    (found,) = scripted(boxes, Rectangles()).find(*table(), MUG)
    assert (found.mask == filled(THING)).all()
    assert found.evidence["part"] == "not found: whole object"
    assert found.evidence["part_taken"] is None
    assert len(found.evidence["part_detections"]) == len(seen)
    assert found.confidence == pytest.approx(0.75 * 0.9 * 0.5)


def test_each_thing_keeps_its_own_part_and_the_surest_comes_first():
    second, handle = (5.0, 5.0, 35.0, 35.0), (5.0, 5.0, 15.0, 35.0)
    boxes = Boxes(
        [Detection(THING, 0.6, "red mug"), Detection(second, 0.5, "red mug")],
        [[], [Detection(in_crop(handle, second), 0.8, "handle")]],
    )
    first, other = scripted(boxes, Rectangles()).find(*table(), MUG)
    assert (first.mask == filled(handle)).all()
    assert (first.object_mask == filled(second)).all()
    assert (other.mask == filled(THING)).all()
    assert first.confidence > other.confidence


def test_no_box_is_not_found():
    with pytest.raises(StageFailure, match="red mug") as failure:
        scripted(Boxes([]), Rectangles()).find(*table(filled(THING)), MUG)
    assert failure.value.code == "grounding.not_found"
    assert failure.value.evidence["detections"] == []


def test_blank_masks_are_a_failure():
    boxes = Boxes([Detection(THING, 0.65, "red mug")], [[]])
    with pytest.raises(StageFailure) as failure:
        scripted(boxes, Rectangles(blank=True)).find(*table(), MUG)
    assert failure.value.code == "grounding.empty_mask"


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_seen_in_a_crop_is_where_it_is_in_the_picture(data):
    height, width = data.draw(st.integers(8, 60)), data.draw(st.integers(8, 60))
    x0, y0 = data.draw(st.floats(0, width - 1.5)), data.draw(st.floats(0, height - 1.5))
    box = (x0, y0, data.draw(st.floats(x0 + 1, width)), data.draw(st.floats(y0 + 1, height)))
    crop = crop_around(box, height, width)
    assert 0 <= crop.x0 <= box[0] < box[2] <= crop.x1 <= width
    assert 0 <= crop.y0 <= box[1] < box[3] <= crop.y1 <= height
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    shown = crop.of(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))  # each pixel holds its own place
    assert shown.shape[:2] == (crop.y1 - crop.y0, crop.x1 - crop.x0)
    row, column = data.draw(st.integers(0, shown.shape[0] - 1)), data.draw(st.integers(0, shown.shape[1] - 1))
    assert crop.to_picture((column, row, column + 1, row + 1))[:2] == tuple(shown[row, column, :2])


def test_words():
    assert names_of(MUG) == ["red mug"]
    assert names_of(MUG.model_copy(update={"object_words": "Red mug. [SEP]"})) == ["red mug sep"]
    several = [Candidate(name=name, score=0.3, known=True) for name in ("hammer", "mallet", "wrench", "pan")]
    assert names_of(MUG.model_copy(update={"object_words": None, "candidates": several})) == [
        "hammer",
        "mallet",
        "wrench",
    ]
    assert prompt_of(["Red mug?", " ", "hammer"]) == "red mug. hammer."
    assert probability_of(0.3, 0.3) == 0.5
    assert probability_of(1.0, 0.3) == 1.0


# Weights


def reference() -> tuple[dict, dict[str, torch.Tensor], torch.Tensor]:
    """What the original code computes, the seeded weights it did so with, and the picture."""
    data = json.loads(REFERENCE.read_text())
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    for name in sorted(data["shapes"]):
        shape = data["shapes"][name]
        if shape[0] == "int":
            weights[name] = torch.zeros(shape[1], dtype=torch.long)
        else:
            offset = 1.0 if re.search(r"norm\w*\.weight$", name) else 0.0
            weights[name] = torch.randn(shape, generator=generator) * 0.08 + offset
    for name in weights:  # one head, listed many times
        if shared := re.match(r"(?:transformer\.decoder\.)?bbox_embed\.\d+\.(.*)", name):
            weights[name] = weights[f"bbox_embed.0.{shared[1]}"]
    return data, weights, torch.randn((1, 3, 96, 128), generator=generator)


def test_an_original_checkpoint_gives_the_original_answers(tmp_path):
    data, weights, pixels = reference()
    torch.save({"model": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "dino.pth")
    model = read_pth(tmp_path / "dino.pth").eval()
    words = torch.tensor([[101, 600, 700, 1012, 800, 1012, 102]])
    with torch.inference_mode():
        answer = model(pixel_values=pixels, input_ids=words)
    np.testing.assert_allclose(answer.pred_boxes[0].numpy(), data["boxes"], atol=1e-4)
    np.testing.assert_allclose(answer.logits[0, :, :7].numpy(), data["logits"], atol=2e-3)
    assert model.config.backbone_config.depths == [1, 2, 1, 1]
    assert (model.config.encoder_attention_heads, model.config.num_queries) == (8, 12)


def test_every_weight_is_used_once_and_back(tmp_path):
    """The renamed weights, saved and read as a folder of the hub, are the same numbers under the same names."""
    from transformers import GroundingDinoForObjectDetection

    _, weights, _ = reference()
    torch.save(weights, tmp_path / "dino.pth")
    model = read_pth(tmp_path / "dino.pth")
    model.save_pretrained(tmp_path / "hub")
    again = GroundingDinoForObjectDetection.from_pretrained(tmp_path / "hub", local_files_only=True)
    renamed = hub_names(weights)
    assert len(renamed) == len(set(renamed))
    assert sum(v.numel() for name, v in renamed.items() if "bbox_embed" not in name) == sum(
        v.numel()
        for name, v in weights.items()
        if "bbox_embed" not in name and not re.search(r"pooler|position_ids|_index$|label_enc", name)
    )
    for (name, a), (_, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.pop("feat_map.weight"), "missing: model.text_projection.weight"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda weights: weights.pop("transformer.tgt_embed.weight"), "has no transformer.tgt_embed.weight"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, change, complaint):
    _, weights, _ = reference()
    change(weights)
    torch.save({"model": weights}, tmp_path / "dino.pth")
    with pytest.raises(AffordAgentError, match=complaint):
        read_pth(tmp_path / "dino.pth")


class Rogue:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_a_checkpoint_that_is_a_program_is_not_run(tmp_path):
    (tmp_path / "rogue.pth").write_bytes(pickle.dumps({"model": Rogue()}))
    with pytest.raises(AffordAgentError, match="would run code"):
        read_pth(tmp_path / "rogue.pth")
    with pytest.raises(AffordAgentError, match="github.com/IDEA-Research"):
        read_pth(tmp_path / "none.pth")


def test_missing_weights_say_how_to_get_them(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    dino, sam2 = map(str, folders)
    for tool, hub in (
        (GroundedSam2Tool(str(tmp_path / "none"), sam2), DINO),
        (GroundedSam2Tool(dino, "nobody/none"), SAM2),
        (GroundedSam2Tool(dino, dino), SAM2),  # of another model
    ):
        with pytest.raises(AffordAgentError, match=f"hf download {hub}"):
            tool.load()


def test_the_setting_chooses_the_tool():
    assert isinstance(Tools(second_opinion=Settings().fallback).fallback, TabletopTool)
    tool = Tools(second_opinion=Settings(fallback="grounded-sam2:a/dino.pth, b").fallback).fallback
    assert isinstance(tool, GroundedSam2Tool)
    assert (tool.dino, tool.sam2) == ("a/dino.pth", "b")
    standard = open_fallback("grounded-sam2")
    assert (standard.dino, standard.sam2) == (DINO, SAM2)
    assert isinstance(open_grounder("grounded-sam2:a,b.pt"), GroundedSam2Tool)
    assert set(ROWS) == {"tabletop", "grounded-sam2", "florence2", "pointing"}
    for wrong in ("sam2", "grounded-sam2:a", "grounded-sam2:,b", "tabletop:x", "florence2:", "florence2:a,b,c"):
        with pytest.raises(AffordAgentError, match=r"grounded-sam2\[:DINO,SAM2\]"):
            open_fallback(wrong)
