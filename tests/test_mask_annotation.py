"""Annotation by priority: which tool's mask is taken, why, and what is left to a person."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_florence2 import write_florence2
from tiny_grounded_sam2 import write_dino, write_sam2

from affordagent.core.errors import AffordAgentError
from affordagent.tools.annotation.chain import Chain, Weights, annotation_of, chain_of, fitted_limits, iou
from affordagent.tools.annotation.makers import JITTER, Original, Outlined, in_given_boxes, jittered
from affordagent.tools.annotation.stand_ins import GrabCut
from affordagent.tools.annotation.types import PERSON, Candidate, Wanted
from affordagent.tools.annotation.video import FlowTracker, Sam2Tracker, propagate

HEIGHT, WIDTH = 120, 160
BOX = (40.0, 30.0, 100.0, 90.0)


def a_picture(dx: int = 0, dy: int = 0) -> np.ndarray:
    """A red disc on grained grey wood, moved by dx, dy."""
    rng = np.random.default_rng(0)
    picture = (110 + rng.normal(0, 6, (HEIGHT, WIDTH, 1))).repeat(3, 2)
    picture[disc(dx, dy)] = (190, 40, 40) + rng.normal(0, 6, (int(disc(dx, dy).sum()), 3))
    return picture.clip(0, 255).astype(np.uint8)


def disc(dx: int = 0, dy: int = 0) -> np.ndarray:
    y, x = np.indices((HEIGHT, WIDTH))
    return (x - 70 - dx) ** 2 + (y - 60 - dy) ** 2 < 28**2


def boxes_alone() -> Chain:
    return Chain([Original(), Outlined("grabcut_box", in_given_boxes, GrabCut())])


def test_the_sources_own_mask_comes_first_and_nothing_else_is_asked() -> None:
    found = boxes_alone().annotate(a_picture(), [Wanted("plate", original=disc(), box=BOX)])[0]
    assert found.tool == "original"
    assert found.reason == "the first choice"
    assert [attempt.tool for attempt in found.attempts] == ["original"]
    np.testing.assert_array_equal(found.mask, disc())


@pytest.mark.parametrize(
    ("original", "why"),
    [
        (None, "the source has no mask"),
        (np.zeros((HEIGHT, WIDTH), bool), "pixels of the mask: 0"),
        (np.roll(disc(), 60, 1), "outside the thing's box"),
        (disc() | np.roll(disc(), 80, 1), "pieces far from the largest"),
        (np.ones((HEIGHT, WIDTH), bool), "outside the thing's box"),
    ],
)
def test_a_mask_that_cannot_be_right_is_passed_over_with_the_reason(original: np.ndarray | None, why: str) -> None:
    found = boxes_alone().annotate(a_picture(), [Wanted("plate", original=original, box=BOX)])[0]
    assert found.tool == "grabcut_box"
    assert why in found.reason
    assert found.mask is not None
    assert iou(found.mask, disc()) > 0.95
    stability = next(m for m in found.attempts[-1].measures if m.name == "stability")
    assert stability.value > 0.95


def test_what_no_tool_can_do_is_left_to_a_person_the_most_uncertain_first() -> None:
    wishes = [Wanted("mug", part="handle", box=BOX), Wanted("plate", original=np.roll(disc(), 60, 1))]
    nothing, doubtful = boxes_alone().annotate(a_picture(), wishes)
    assert nothing.tool == PERSON
    assert nothing.mask is None
    assert "boxes are of whole things, wanted is the handle" in nothing.reason
    assert nothing.uncertainty == 1
    assert doubtful.tool == "original"  # nothing says where the plate should be
    assert doubtful.uncertainty < nothing.uncertainty


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wanted("plate", original=np.zeros((3, 4), bool)), "(3, 4)"),
        (Wanted("plate", box=(50.0, 20.0, 40.0, 30.0)), "none inside a picture of 160 x 120"),
        (Wanted("plate", box=(500.0, 20.0, 540.0, 30.0)), "none inside"),
        (Wanted("plate", box=(float("nan"), 0.0, 4.0, 3.0)), "none inside"),
    ],
)
def test_a_wish_that_does_not_fit_the_picture_is_an_error(wish: Wanted, said: str) -> None:
    with pytest.raises(AffordAgentError) as error:
        boxes_alone().annotate(a_picture(), [wish])
    assert said in str(error.value)


sides = st.floats(-300, 300)


@given(sides, sides, st.floats(1, 400), st.floats(1, 400))
def test_jittered_boxes_stay_near(x: float, y: float, width: float, height: float) -> None:
    box = (x, y, x + width, y + height)
    others = np.array(jittered(box))
    assert (others[:, 2] > others[:, 0]).all()
    assert (others[:, 3] > others[:, 1]).all()
    most = JITTER * np.array([width, height, width, height]) + 1e-9
    assert (np.abs(others - box) <= most).all()


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=4))
def test_uncertainty_lies_between_0_and_1_and_is_less_once_a_mask_is_accepted(tries: list[tuple[bool, float]]) -> None:
    chain = Chain([], {"any": {"agreement": ("least", 0.5)}, "sure": {"agreement": ("least", 0.0)}})
    attempts = []
    for accepted, agreement in tries:
        second = np.zeros((10, 10), bool)
        second.flat[: round(100 * agreement)] = True
        tool = "sure" if accepted else "unsure"
        attempts.append(chain.judged(tool, Candidate(np.ones((10, 10), bool), second=second)))
    found = annotation_of(attempts)
    assert 0 <= found.uncertainty <= 1
    assert (found.mask is None) == (not attempts or not attempts[-1].accepted)
    if found.mask is not None:
        assert found.uncertainty <= 0.5


def test_the_shipped_limits_are_of_the_shipped_tools() -> None:
    limits = fitted_limits()
    names = {maker.name for maker in chain_of(Weights()).makers}
    assert names == {"original", "grabcut_box", "proposals_grabcut", "mini_parts"}
    assert set(limits) - {"any"} <= names
    assert {rule for of in limits.values() for rule, _ in of.values()} <= {"least", "most"}


def test_the_published_tools_are_asked_in_order_with_weights_of_their_own_format(tmp_path) -> None:
    weights = Weights(
        str(write_sam2(tmp_path / "sam2")),
        str(write_florence2(tmp_path / "florence")),
        str(write_dino(tmp_path / "dino")),
    )
    chain = chain_of(weights)
    assert [m.name for m in chain.makers] == ["original", "sam2_box", "florence2_sam2", "part_detector_sam2"]
    picture = a_picture()
    wishes = [Wanted("plate", box=BOX), Wanted("plate"), Wanted("mug", "handle", box=BOX), Wanted("mug", "handle")]
    found = chain.annotate(picture, wishes)
    for wish, annotation in zip(
        wishes, found, strict=True
    ):  # the weights are random: most go to a person, all are tried
        tried = {attempt.tool: attempt for attempt in annotation.attempts}
        expected = {"part_detector_sam2"} if wish.part else {"sam2_box"} if wish.box else {"florence2_sam2"}
        assert annotation.tool in {*expected, PERSON, "florence2_sam2"}
        assert expected <= set(tried)
        for attempt in tried.values():
            assert attempt.mask is None or attempt.mask.shape == (HEIGHT, WIDTH)
            assert attempt.reason


def test_a_mask_is_carried_through_frames_and_checked_by_the_way_back() -> None:
    frames = [a_picture(3 * i, 2 * i) for i in range(5)]
    found = propagate(FlowTracker(), frames, disc(6, 4), 2)
    assert len(found) == 5
    np.testing.assert_array_equal(found[2].mask, disc(6, 4))
    for i, of in enumerate(found):
        assert of.believed
        assert iou(of.mask, disc(3 * i, 2 * i)) > 0.9


def test_a_thing_that_leaves_the_picture_is_not_believed_to_be_there() -> None:
    frames = [a_picture(), a_picture(400, 0)]
    gone = propagate(FlowTracker(), frames, disc(), 0)[1]
    assert not gone.believed


@pytest.mark.parametrize(
    ("mask", "at", "said"),
    [(disc(), 7, "frame 7"), (disc()[:50], 0, "one size"), (np.zeros((HEIGHT, WIDTH), bool), 0, "0 pixels")],
)
def test_what_cannot_be_followed_is_an_error(mask: np.ndarray, at: int, said: str) -> None:
    with pytest.raises(AffordAgentError, match=said):
        propagate(FlowTracker(), [a_picture()] * 3, mask, at)


def test_sam2_carries_masks_with_weights_in_the_published_format(tmp_path) -> None:
    tracker = Sam2Tracker(str(write_sam2(tmp_path / "sam2", channels=128)))
    masks = tracker.follow([a_picture(i) for i in range(3)], disc())
    assert [mask.shape for mask in masks] == [(HEIGHT, WIDTH)] * 3
    assert all(mask.dtype == bool for mask in masks)
    np.testing.assert_array_equal(masks[0], disc())
