"""Proposals from colour alone, their network and its training, and the grounding tools on pictures without depth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_affordance_set import write_fake_set
from hypothesis import given, settings
from hypothesis import strategies as st

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Candidate, FunctionalQuery, Mask, box_of
from affordagent.finetune.mini_data import list_rows
from affordagent.finetune.objectness import Maps, Objectness, Thing, _adopted, _united, closeness, full_size, group
from affordagent.finetune.objectness_data import sample_batch, texture, thing_ids
from affordagent.finetune.objectness_train import Trainer, lovasz_hinge
from affordagent.tools.affordance_vlm import AffordanceTool
from affordagent.tools.attributes import attribute_factors
from affordagent.tools.part_geometry import part_by_geometry
from affordagent.tools.rgb_proposals import MOST_PROPOSALS, SHIPPED_CHECKPOINT, propose_rgb, scene_of_picture
from affordagent.tools.sizes import SIZES_M, size_likelihoods
from affordagent.tools.tabletop import TabletopTool, dimensions_of


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, list[Mask]]:
    """A grained table with a ball, a box and a rod, and their true masks."""
    rng = np.random.default_rng(4)
    color = np.full((480, 640, 3), (150, 110, 70), np.float32)
    color += cv2.GaussianBlur(rng.standard_normal((480, 640, 1)).astype(np.float32), (0, 0), 1.5)[..., None] * 25
    y, x = np.mgrid[:480, :640]
    masks = [np.hypot(x - 150, y - 170) < 62, (abs(x - 420) < 70) & (abs(y - 150) < 55), np.zeros((480, 640), bool)]
    rod = cv2.boxPoints(((330.0, 370.0), (260.0, 26.0), 12.0)).astype(np.int32)
    masks[2] = cv2.fillPoly(np.zeros((480, 640), np.uint8), [rod], 1) > 0
    for mask, colour in zip(masks, ((190, 40, 40), (40, 70, 190), (30, 30, 35)), strict=True):
        shade = 1.15 - 0.5 * (x + y - 300) / 640
        shadow = cv2.GaussianBlur(np.roll(mask, (10, 14), (0, 1)).astype(np.float32), (0, 0), 6)
        color *= 1 - 0.45 * (shadow * ~mask)[..., None]
        color[mask] = (np.array(colour) * shade[..., None])[mask]
    return np.clip(color, 0, 255).astype(np.uint8), masks


def asks(text: str, category: str, part: str | None = None, **attributes: str) -> FunctionalQuery:
    candidates = [Candidate(name=category, score=0.9, known=True)]
    return FunctionalQuery(
        text=text, intent="pick", category=category, candidates=candidates, part=part, attributes=attributes
    )


def test_every_thing_on_a_table_gets_a_proposal(table: tuple[np.ndarray, list[Mask]]) -> None:
    color, truth = table
    proposals = propose_rgb(color)
    assert len(proposals) <= 6
    for mask in truth:
        assert max(iou(p.mask, mask) for p in proposals) > 0.75


@pytest.mark.parametrize("size", [(256, 192), (1800, 2400)])
def test_the_size_of_the_picture_hardly_matters(table: tuple[np.ndarray, list[Mask]], size: tuple[int, int]) -> None:
    color, truth = table
    if size[0] > size[1]:  # upright
        color, truth = color.transpose(1, 0, 2), [m.T for m in truth]
    resized = cv2.resize(color, size[::-1], interpolation=cv2.INTER_AREA)
    for mask in truth[:2]:
        target = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
        assert max(iou(p.mask, target) for p in propose_rgb(resized)) > 0.7


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 99), st.sampled_from(["noise", "plain", "texture"]))
def test_odd_pictures_give_whole_proposals(height: int, width: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    if kind == "noise":
        color = rng.integers(0, 256, (height, width, 3), np.uint8)
    elif kind == "plain":
        color = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    else:
        color = texture((height, width), rng)
    proposals = propose_rgb(color)
    assert 1 <= len(proposals) <= MOST_PROPOSALS
    assert [p.id for p in proposals] == list(range(len(proposals)))
    for p in proposals:
        assert p.mask.shape == (height, width)
        assert p.mask.dtype == bool
        assert p.box == box_of(p.mask)
    assert (sum(p.mask.astype(int) for p in proposals) <= 1).all()


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)], ids=str
)
def test_what_is_no_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(AffordAgentError, match="uint8 RGB"):
        propose_rgb(picture)


@pytest.mark.parametrize("name", ["cheezit", "green_bowl", "mustard", "red_mug"])
def test_real_things_get_a_proposal(name: str, real_frames: Path) -> None:
    color = cv2.imread(str(real_frames / f"{name}_color.png"))[..., ::-1]
    truth = cv2.imread(str(real_frames / f"{name}_object_mask.png"), 0) > 0
    assert max(iou(p.mask, truth) for p in propose_rgb(color)) > 0.75


def test_red_mug_is_grounded_by_its_handle_without_depth(real_frames: Path) -> None:
    color = cv2.imread(str(real_frames / "red_mug_color.png"))[..., ::-1]
    frame, scene = scene_of_picture(color)
    best = AffordanceTool().find(frame, scene, asks("the red mug", "mug", "handle", colour="red"))[0]
    assert iou(best.object_mask, cv2.imread(str(real_frames / "red_mug_object_mask.png"), 0) > 0) > 0.75
    handle = cv2.imread(str(real_frames / "red_mug_handle_mask.png"), 0) > 0
    assert (best.mask & handle).sum() > 0.8 * best.mask.sum()
    assert iou(best.mask, handle) > 0.55


def test_unknown_sizes_do_not_vote(table: tuple[np.ndarray, list[Mask]]) -> None:
    frame, scene = scene_of_picture(table[0])
    dimensions_m = dimensions_of(frame, scene)
    assert dimensions_m.shape == (len(scene.proposals), 3)
    assert np.isnan(dimensions_m).all()
    assert np.ptp(size_likelihoods([*SIZES_M, "kettle"], dimensions_m)) == 0
    assert part_by_geometry(frame, scene, scene.proposals[0], "rim") is None
    everything = np.ones(len(scene.proposals), bool)
    factors, ignored = attribute_factors(frame, scene.proposals, dimensions_m, everything, {"size": "long"})
    assert not ignored
    assert iou(scene.proposals[int(factors.argmax())].mask, table[1][2]) > 0.5  # the rod


@pytest.mark.parametrize("tool", [AffordanceTool(), TabletopTool()], ids=["trained", "fallback"])
@pytest.mark.parametrize("part", [None, "handle", "rim"])
def test_grounding_tools_work_without_depth(
    tool: AffordanceTool | TabletopTool, part: str | None, table: tuple[np.ndarray, list[Mask]]
) -> None:
    frame, scene = scene_of_picture(table[0])
    best = tool.find(frame, scene, asks("the ball", "ball", part, colour="red", size="big"))[0]
    assert iou(best.object_mask, table[1][0]) > 0.6
    assert 0 <= best.confidence <= 1


def test_votes_are_grouped_into_things() -> None:
    ids = np.zeros((32, 40), int)
    ids[4:14, 5:15], ids[10:28, 20:24], ids[20:22, 2:18] = 1, 2, 3
    votes, seeds = np.zeros((1, 2, 32, 40), np.float32), np.full((1, 1, 32, 40), -5, np.float32)
    for k in (1, 2, 3):
        y, x = np.nonzero(ids == k)
        votes[0, 0][ids == k], votes[0, 1][ids == k] = x.mean() / 36, y.mean() / 36
        seeds[0, 0][ids == k] = k
    foreground = np.repeat(np.repeat(np.where(ids > 0, 5, -5), 2, 0), 2, 1).astype(np.float32)[None, None]
    maps = Maps(*map(torch.from_numpy, (votes, np.full_like(seeds, 5), seeds, foreground)))
    labels, scores = group(maps)
    assert [iou(labels == k, ids == 4 - k) for k in (1, 2, 3)] == [1, 1, 1]  # the surest seed first
    assert scores == sorted(scores, reverse=True)
    mask = full_size(labels == 3, 1 / (1 + np.exp(-foreground[0, 0])), (320, 400))
    assert iou(mask, np.repeat(np.repeat(ids == 1, 10, 0), 10, 1)) > 0.97


@given(st.integers(0, 10_000))
def test_lovasz_hinge_is_the_jaccard_loss_on_decisions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said, own = rng.random((3, 20)) < 0.4, rng.random((3, 20)) < 0.4
    own[:, 0] = True
    loss = lovasz_hinge(torch.from_numpy(np.where(said, 1.0, -1.0)), torch.from_numpy(own.astype(float)))
    expected = [2 * (1 - iou(a, b)) for a, b in zip(said, own, strict=True)]  # a wrong cell has a hinge of 2
    np.testing.assert_allclose(loss.numpy(), expected, atol=1e-9)


def test_closeness_is_one_at_the_middle_and_falls_with_the_spread() -> None:
    votes = torch.tensor([[0.0, 0.1], [0.0, 0.0]])
    close = closeness(votes, torch.zeros(2, 2), torch.tensor([2.0, 6.0]))
    assert close[:, 0].tolist() == [1, 1]
    assert close[0, 1] > close[1, 1]


def test_training_resumes_where_it_was_and_exports_what_loads(tmp_path: Path) -> None:
    write_fake_set(tmp_path / "data", 4)
    rows = list_rows(tmp_path / "data")
    assert len(np.unique(thing_ids(rows[0]))) == 5  # background, three things, clutter
    batch, again = sample_batch(rows, 2, 0, 7), sample_batch(rows, 2, 0, 7)
    assert all((a.image == b.image).all() and (a.things == b.things).all() for a, b in zip(batch, again, strict=True))
    assert batch[0].things.shape == tuple(n // 4 for n in batch[0].image.shape[1:])
    trainer = Trainer(tmp_path / "run")
    trainer.train_step(rows, 0.0)
    trainer.save()
    expected = trainer.train_step(rows, 0.1)
    resumed = Trainer(tmp_path / "run")
    resumed.resume()
    assert resumed.train_step(rows, 0.1) == pytest.approx(expected, rel=1e-4)
    assert Objectness(tmp_path / "run").things(rows[0].color()) is not None


def test_checkpoint_is_small_documented_and_checked(tmp_path: Path) -> None:
    assert {f.name for f in SHIPPED_CHECKPOINT.iterdir()} == {"head.safetensors", "MODEL_CARD.md"}
    assert (SHIPPED_CHECKPOINT / "head.safetensors").stat().st_size < 4e6
    with pytest.raises(AffordAgentError, match=r"no head\.safetensors"):
        Objectness(tmp_path)


def test_a_large_thing_seen_from_afar_takes_its_pieces() -> None:
    whole, cap, label, far_away = (np.zeros((100, 100), bool) for _ in range(4))
    whole[10:70, 10:60], cap[8:20, 20:40], label[40:60, 15:50], far_away[80:90, 80:95] = True, True, True, True
    pieces = [Thing(cap, 0.7), Thing(label, 0.8), Thing(far_away, 0.9)]
    united = _united(pieces, [Thing(whole, 0.6), Thing(far_away, 0.6)])
    assert [int(t.mask.sum()) for t in united] == [int(far_away.sum()), int((whole | cap).sum())]
    assert united[1].score == 0.8
    assert _united([Thing(whole, 0.9)], [Thing(whole, 0.6)])[0].score == 0.9  # seen once already


def test_foreground_that_nothing_gathered_joins_the_thing_it_touches_most() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[2:18, 2:12], labels[2:18, 16:28] = 1, 2
    labels[6:10, 4:9] = 0  # a print on the first thing
    solid = np.zeros((20, 30), bool)
    solid[2:18, 2:12], solid[2:18, 16:28], solid[0, 14] = True, True, True
    adopted = _adopted(labels, solid)
    assert (adopted[2:18, 2:12] == 1).all()
    assert adopted[0, 14] == 0  # it touches none
    assert (adopted == 2).sum() == (labels == 2).sum()
