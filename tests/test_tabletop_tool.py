"""Grounding without training: names, attributes, parts by shape, and the judgement that a thing is not there."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raycast import Box, iou, raycast

from affordagent.core.errors import StageFailure
from affordagent.core.types import Candidate, FunctionalQuery
from affordagent.robot.frame_cell import FrameCell
from affordagent.tools import appearance
from affordagent.tools.attributes import colour_share
from affordagent.tools.part_geometry import part_by_geometry
from affordagent.tools.sizes import SIZES_M, size_likelihoods
from affordagent.tools.table import find_objects
from affordagent.tools.tabletop import TabletopTool, confidence, object_posterior, wanted_share
from affordagent.tools.vocabulary import known_things, wish_of


def asks(
    category: str | None = None, words: str | None = None, part: str | None = None, **attributes: str
) -> FunctionalQuery:
    candidates = [Candidate(name=category, score=0.95, known=True)] if category else []
    return FunctionalQuery(
        text=f"pick up the {category or words}",
        intent="pick",
        category=category,
        candidates=candidates,
        object_words=words,
        part=part,
        attributes=attributes,
    )


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("red_mug", asks("mug"), asks("hammer")),
        ("green_bowl", asks(words="bowl"), asks("mug")),
        ("mustard", asks("bottle"), asks("box")),
        ("cheezit", asks("box"), asks(words="kettle")),
    ],
)
def test_real_things_are_named_and_absent_ones_missed(
    name: str, right: FunctionalQuery, wrong: FunctionalQuery, real_frames: Path
) -> None:
    frame = FrameCell(real_frames / name).look()
    scene = find_objects(frame)
    truth = cv2.imread(str(real_frames / f"{name}_object_mask.png"), 0) > 0
    (found,) = TabletopTool().find(frame, scene, right)
    assert iou(found.mask, truth) > 0.9
    assert found.confidence > 0.6
    assert not found.evidence["absent"]
    assert (right.category or right.object_words) in found.evidence["looks_like"]  # the three likeliest of all things
    (absent,) = TabletopTool().find(frame, scene, wrong)
    assert absent.evidence["absent"]
    assert absent.confidence < 0.25


def test_the_handle_of_the_real_mug(real_frames: Path) -> None:
    frame = FrameCell(real_frames / "red_mug").look()
    truth = cv2.imread(str(real_frames / "red_mug_handle_mask.png"), 0) > 0
    (found,) = TabletopTool().find(frame, find_objects(frame), asks("mug", part="handle"))
    assert found.evidence["part"] == "found"
    assert iou(found.mask, truth) > 0.5  # depth and colour are about 3 px apart here
    body = part_by_geometry(frame, find_objects(frame), find_objects(frame).proposals[0], "body")
    assert body is not None
    assert not (body & found.mask).any()


@given(yaw=st.floats(0, 6.28), x=st.floats(0.4, 0.5))
@settings(max_examples=10, deadline=None)
def test_a_long_handle_is_found_at_any_angle(yaw: float, x: float) -> None:
    along = np.array([np.cos(yaw), np.sin(yaw)])
    handle = Box((x, 0.0), (0.20, 0.025, 0.025), yaw)
    head = Box((float(x + 0.115 * along[0]), float(0.115 * along[1])), (0.03, 0.11, 0.03), yaw)
    frame, (handle_mask, head_mask) = raycast([handle, head])
    scene = find_objects(frame)
    assert len(scene.proposals) == 1
    found = part_by_geometry(frame, scene, scene.proposals[0], "handle", "hammer")
    assert found is not None
    assert iou(found, handle_mask) > 0.8
    rest = part_by_geometry(frame, scene, scene.proposals[0], "head", "hammer")
    assert rest is not None
    assert iou(rest, head_mask) > 0.6
    assert not (rest & found).any()


def test_a_taller_grip_is_the_handle_of_a_screwdriver() -> None:
    grip = Box((0.45, -0.06), (0.03, 0.10, 0.03), rgb=(220, 160, 20))
    shaft = Box((0.45, 0.04), (0.008, 0.10, 0.018), rgb=(150, 150, 155))
    frame, (grip_mask, _) = raycast([grip, shaft])
    scene = find_objects(frame)
    found = part_by_geometry(frame, scene, scene.proposals[0], "handle", "screwdriver")
    assert found is not None
    assert iou(found, grip_mask) > 0.85


def test_a_thing_that_is_wide_in_its_middle_alone_has_two_handles() -> None:
    ends = [Box((0.45, y), (0.02, 0.06, 0.02)) for y in (-0.12, 0.12)]
    frame, (left, right, _) = raycast([*ends, Box((0.45, 0.0), (0.045, 0.18, 0.045))])
    scene = find_objects(frame)
    found = part_by_geometry(frame, scene, scene.proposals[0], "handle")
    assert found is not None
    assert iou(found, left | right) > 0.7
    one = part_by_geometry(frame, scene, scene.proposals[0], "handle", "hammer")  # a hammer is known to have one
    assert one is None or not (one & left).any() or not (one & right).any()


def test_colour_and_place_choose_among_equals() -> None:
    boxes = [Box((0.45, y), (0.07, 0.05, 0.12), 0.3, rgb) for y, rgb in ((-0.15, (200, 20, 20)), (0.15, (20, 60, 200)))]
    frame, (red, blue) = raycast(boxes)  # the camera faces the robot: +y is on its right
    scene = find_objects(frame)
    tool = TabletopTool()
    for query, wanted in (
        (asks("box", colour="red"), red),
        (asks("box", colour="blue"), blue),
        (asks("box", position="left"), red),
        (asks("box", position="right"), blue),
    ):
        best, other = tool.find(frame, scene, query)
        assert iou(best.mask, wanted) > 0.9, query.attributes
        assert best.confidence > other.confidence
    (best, _) = tool.find(frame, scene, asks("box", material="wooden"))
    assert best.evidence["attributes_ignored"] == ["material: wooden"]


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((200, 20, 20), "red"),
        ((20, 160, 40), "green"),
        ((30, 60, 200), "blue"),
        ((230, 210, 30), "yellow"),
        ((240, 130, 20), "orange"),
        ((15, 15, 15), "black"),
        ((240, 240, 240), "white"),
        ((130, 130, 130), "grey"),
        ((110, 70, 40), "brown"),
        ((130, 40, 180), "purple"),
    ],
)
def test_colour_words(rgb: tuple[int, int, int], word: str) -> None:
    color = np.full((4, 4, 3), rgb, np.uint8)
    everywhere = np.ones((4, 4), bool)
    assert colour_share(color, everywhere, word) == 1
    for other in {"red", "green", "blue", "black", "white"} - {word}:
        assert colour_share(color, everywhere, other) == 0
    assert colour_share(color, everywhere, "mauve-ish") is None


def test_sizes_tell_a_mug_from_a_spatula() -> None:
    mug, spatula = np.array([0.12, 0.08, 0.10]), np.array([0.30, 0.07, 0.02])
    kettle, nowhere = np.array([0.22, 0.17, 0.2]), np.full(3, np.nan)
    names = ["mug", "spatula", "kettle", "gizmo"]
    likely = size_likelihoods(names, np.array([mug, spatula, kettle, nowhere]))  # (thing seen, name)
    assert likely[0, 0] > 100 * likely[0, 1]
    assert likely[1, 1] > 100 * likely[1, 0]
    assert likely[2, 2] > 100 * likely[1, 2]
    assert len(set(likely[:, 3].tolist() + likely[3].tolist())) == 1  # unknown names and unknown sizes do not vote
    assert all(low < high for poses in SIZES_M.values() for pose in poses for low, high in pose)


def test_the_stored_likenesses_are_those_of_the_words() -> None:
    things, stored = known_things(), appearance.known_likenesses()
    assert appearance.LIKENESSES.is_file()
    assert stored.shape == (len(things), len(appearance.class_names()))
    some = [0, 30, len(things) - 1]
    fresh = appearance.likenesses([list(things.values())[i] for i in some])
    assert stored[some] == pytest.approx(fresh, abs=1e-3)


def test_every_category_has_a_size() -> None:
    from affordagent.core.catalogue import catalogue

    assert set(SIZES_M) == set(catalogue())


def test_a_wish_of_another_word_gets_a_share_of_its_own() -> None:
    classes = np.full((2, len(appearance.class_names())), 1 / len(appearance.class_names()), np.float32)
    sizes_m = np.full((2, 3), np.nan)
    for words, more in (("kettle", 0), ("gizmo", 1)):
        wish = wish_of(asks(words=words))
        posterior, names = object_posterior(classes, sizes_m, wish)
        assert posterior.shape == (2, len(known_things()) + more)
        assert posterior.sum(1) == pytest.approx(1)
        assert wanted_share(posterior, names, wish) == pytest.approx(posterior[:, names.index(words)])


def test_confidence_rises_with_the_score() -> None:
    values = [confidence(s) for s in (0.0, 0.05, 0.2, 0.6, 1.0)]
    assert values == sorted(values)
    assert 0 <= values[0] < 0.05 < 0.95 < values[-1] <= 1


def test_an_empty_scene_is_typed() -> None:
    frame, _ = raycast([Box((0.45, 0.0), (0.05, 0.05, 0.05))])
    scene = find_objects(frame)
    scene.proposals.clear()
    with pytest.raises(StageFailure, match="nothing stands on the table"):
        TabletopTool().find(frame, scene, asks("mug"))
