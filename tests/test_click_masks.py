"""Masks edited by clicks: a few clicks on a part give its mask, by depth and colour, or by SAM 2."""

import cv2
import numpy as np
import pytest
from tiny_grounded_sam2 import write_sam2

from affordagent.agent.session import Tools
from affordagent.agent.web.masks import Click, edited, segmenter_of
from affordagent.core.errors import AffordAgentError
from affordagent.evaluations.clicks import STARTS, ious_of, next_click, summary
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.scene import sample_scene
from affordagent.tools.segmenter import Segmenter
from affordagent.tools.table import find_objects


@pytest.fixture(scope="module")
def scene():
    """Frame, table, and the true things of a scene with a mug, a pan, a cup, a spoon and a ladle."""
    with SimCell(sample_scene("kitchen", 2)) as cell:
        frame = cell.look()
        return frame, find_objects(frame), cell.truth()


@pytest.mark.parametrize("start", ["nothing", "the whole thing"])
def test_a_few_clicks_give_the_handles(scene, start):
    found = []
    for thing in scene[2]:
        mask = np.zeros_like(thing.mask) if start == "nothing" else thing.mask
        found.append(ious_of(scene[0], scene[1], mask, thing.part_mask)[-1])
    assert np.median(found) > 0.85
    assert min(found) > 0.5


def test_what_is_reported_of_clicks():
    rows = [{"start": start, "iou": [0.0, 0.5, 0.8, 0.8, 0.9, 1.0]} for start in STARTS for _ in range(4)]
    after = summary(rows)["nothing"]
    assert [step["clicks"] for step in after] == [0, 1, 2, 3, 4, 5]
    assert (after[2]["median"], after[2]["good"]["k"], after[1]["good"]["k"]) == (0.8, 4, 0)


def test_a_click_stays_on_one_thing(scene):
    frame, table, truth = scene
    blank = np.zeros(frame.depth_m.shape, bool)
    for thing in truth:
        y, x = np.argwhere(thing.part_mask).mean(0).astype(int)
        region = edited(frame, blank, Click(int(x), int(y), True), table=table)
        assert region[y, x]
        for other in truth:
            assert other.name == thing.name or (region & other.mask).sum() < 0.02 * other.mask.sum()


def test_a_click_on_the_bare_table_marks_little(scene):
    frame, table, _ = scene
    region = edited(frame, np.zeros(frame.depth_m.shape, bool), Click(30, 450, True), table=table)
    assert region[450, 30]
    assert region.sum() < 5000
    assert (edited(frame, region, Click(30, 450, False), table=table)).sum() < region.sum()


def test_the_same_clicks_give_the_same_mask_and_leave_the_given_one(scene):
    frame, table, truth = scene
    given = truth[0].mask.copy()
    click = next_click(given, truth[0].part_mask)
    one, two = (edited(frame, given, click, table=table) for _ in range(2))
    assert (one == two).all()
    assert (given == truth[0].mask).all()
    assert not edited(frame, given, Click(click.x, click.y, False)).all()  # without a table as well


@pytest.mark.parametrize(("x", "y"), [(-1, 5), (640, 5), (5, 480), (10**9, 5)])
def test_clicks_outside_the_picture(scene, x, y):
    frame = scene[0]
    with pytest.raises(AffordAgentError, match="outside the picture"):
        edited(frame, np.zeros(frame.depth_m.shape, bool), Click(x, y, True))


def test_a_mask_of_another_picture(scene):
    with pytest.raises(AffordAgentError, match="start again"):
        edited(scene[0], np.zeros((10, 10), bool), Click(1, 1, True))


def test_by_sam2_all_clicks_count_and_what_is_far_stays(scene, tmp_path):
    """A tiny SAM 2 with random weights: what it answers means nothing, but the click and what is apart from it hold."""
    frame = scene[0]
    segmenter = Segmenter(str(write_sam2(tmp_path / "sam2")))
    far = np.zeros(frame.depth_m.shape, bool)
    far[:20, :20] = True
    click = Click(300, 300, True)
    mask = edited(frame, far, click, segmenter=segmenter)
    assert mask[300, 300]
    _, pieces = cv2.connectedComponents((mask != far).astype(np.uint8))
    assert pieces.max() == 1  # one piece has changed
    second = edited(frame, mask, Click(300, 310, False), segmenter=segmenter, earlier=[click])
    assert not second[310, 300]
    points, on_it = [(300, 300), (300, 310)], [True, False]
    alone = segmenter.better(frame.color, points[:1], on_it[:1], np.zeros_like(far))
    assert alone.shape == far.shape
    assert (segmenter.better(frame.color, points, on_it, mask) != alone).any()


def test_whose_sam2_is_used(tmp_path):
    assert segmenter_of(Tools()) is None
    place = write_sam2(tmp_path / "sam2")
    tools = Tools(second_opinion=f"pointing:http://127.0.0.1:1/v1,none,{place}")
    assert isinstance(segmenter_of(tools), Segmenter)
