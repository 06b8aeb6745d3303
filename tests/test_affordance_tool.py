"""The trained grounding tool, with the checkpoint that ships."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import StageFailure
from affordagent.core.types import Candidate, FunctionalQuery, Mask, RgbdFrame, TableScene
from affordagent.tools.affordance_vlm import SHIPPED_CHECKPOINT, AffordanceTool, largest_pieces, phrases_of
from affordagent.tools.table import find_objects
from affordagent.tools.vocabulary import wish_of


def query(text: str, category: str, part: str | None = "handle", **attributes: str) -> FunctionalQuery:
    candidates = [Candidate(name=category, score=0.9, known=True)]
    return FunctionalQuery(
        text=text, intent="pick", category=category, candidates=candidates, part=part, attributes=attributes
    )


@pytest.fixture(scope="module")
def tool() -> AffordanceTool:
    return AffordanceTool()


@pytest.fixture(scope="module")
def kitchen() -> tuple[RgbdFrame, TableScene, dict[str, tuple[Mask, Mask]]]:
    """A rendered table with its proposals, and the true (part, object) masks by category."""
    mujoco = pytest.importorskip("mujoco")
    from affordagent.robot.sim.dataset_scene import HEIGHT, WIDTH, Pool, make_item
    from affordagent.robot.sim.objects import library
    from affordagent.robot.sim.render import Renderer
    from affordagent.robot.sim.scene import TEST_SEEDS, pinhole

    names = ("mug", "screwdriver", "hammer", "bottle")
    items = [make_item(i + 1, s, library.make(n, s)) for i, n in enumerate(names) for s in [TEST_SEEDS.start + 11]]
    rng = np.random.default_rng(5)
    pool = Pool(items, rng)
    try:
        renderer = Renderer(pool.model, WIDTH, HEIGHT)
    except (RuntimeError, AttributeError, mujoco.FatalError) as error:
        pytest.skip(f"no OpenGL here: {error}")
    with renderer:
        for _ in range(20):
            view = pool.randomise(rng, list(pool.items), len(names))
            color = renderer.color(pool.data, shadows=view.shadows)
            depth_m, geoms = renderer.geometry(pool.data)
            labels = pool.labels[geoms]
            sizes = [int((labels == item.label(item.obj.part)).sum()) for item in items]
            if min(sizes) > 150:
                break
    frame = RgbdFrame(color, depth_m.astype(np.float32), pinhole(WIDTH, HEIGHT, view.fovy_deg))
    truth = {i.category: (labels == i.label(i.obj.part), labels // 8 == i.slot) for i in items}
    return frame, find_objects(frame), truth


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def test_checkpoint_is_small_and_documented() -> None:
    assert {f.name for f in SHIPPED_CHECKPOINT.iterdir()} == {"model.safetensors", "config.json", "MODEL_CARD.md"}
    assert (SHIPPED_CHECKPOINT / "model.safetensors").stat().st_size < 40e6
    config = json.loads((SHIPPED_CHECKPOINT / "config.json").read_text())
    assert {"model", "pick", "confidence"} <= set(config)


@pytest.mark.parametrize("category", ["mug", "screwdriver", "hammer"])
def test_finds_the_handle(tool: AffordanceTool, kitchen: tuple, category: str) -> None:
    frame, scene, truth = kitchen
    found = tool.find(frame, scene, query(f"the {category}", category))
    part, whole = truth[category]
    assert iou(found[0].object_mask, whole) > 0.6
    assert iou(found[0].mask, part) > 0.4
    assert (found[0].mask & ~found[0].object_mask).sum() == 0
    assert found[0].evidence["part_from"] == "learned"
    assert sum(found[0].evidence["shares"].values()) == pytest.approx(1, abs=0.01)
    json.dumps(found[0].evidence)


def test_works_without_depth(tool: AffordanceTool, kitchen: tuple) -> None:
    frame, scene, truth = kitchen
    blind = replace(frame, depth_m=np.zeros_like(frame.depth_m))
    assert iou(tool.find(blind, scene, query("the hammer", "hammer"))[0].mask, truth["hammer"][0]) > 0.3


def test_another_part_than_the_learned_one(tool: AffordanceTool, kitchen: tuple) -> None:
    frame, scene, truth = kitchen
    handle = tool.find(frame, scene, query("the screwdriver", "screwdriver"))[0]
    shaft = tool.find(frame, scene, query("the screwdriver by its tip", "screwdriver", "tip"))[0]
    assert not (shaft.mask & handle.mask).any()
    assert shaft.confidence < handle.confidence
    assert shaft.evidence["part_from"] == "object without the learned part"


def test_things_that_are_not_there_get_less_confidence(tool: AffordanceTool, kitchen: tuple) -> None:
    frame, scene, _ = kitchen
    here = tool.find(frame, scene, query("the hammer", "hammer"))[0].confidence
    absent = tool.find(frame, scene, query("the banana", "banana", None))[0].confidence
    assert absent < here - 0.15


def test_unknown_words_are_never_sure(tool: AffordanceTool, kitchen: tuple) -> None:
    frame, scene, _ = kitchen
    unknown = FunctionalQuery(text="the gizmo", intent="pick", object_words="gizmo")
    assert tool.find(frame, scene, unknown)[0].confidence <= 0.6


def test_no_proposals_is_a_failure(tool: AffordanceTool, kitchen: tuple) -> None:
    frame, scene, _ = kitchen
    with pytest.raises(StageFailure, match="nothing stands on the table"):
        tool.find(frame, TableScene(scene.plane_camera, scene.height_m, []), query("the mug", "mug"))


def test_phrases_come_from_candidates_words_or_the_text() -> None:
    both = query("a red one", "mug", colour="red")
    both = both.model_copy(update={"candidates": [*both.candidates, Candidate(name="can", score=0.1, known=True)]})
    wish = wish_of(both)
    assert phrases_of(both, wish) == ["the red mug", "the red can"]
    assert wish.weights.tolist() == pytest.approx([0.9, 0.1])
    kettle = FunctionalQuery(text="the kettle", intent="pick", object_words="kettle")
    assert phrases_of(kettle, wish_of(kettle)) == ["the kettle"]
    something = FunctionalQuery(text="something hot", intent="pick")
    assert phrases_of(something, wish_of(something)) == ["something hot"]


def test_what_the_network_was_trained_on_is_known(tool: AffordanceTool) -> None:
    assert tool.knows("hammer")
    assert not tool.knows("kettle")
    assert not tool.knows("gizmo")


def test_imagenet_is_asked_only_where_the_network_doubts(tool: AffordanceTool, kitchen: tuple) -> None:
    frame, scene, _ = kitchen
    look = tool.look(frame, scene)
    tool.rank(look, query("the mug", "mug"))
    assert 0 < len(look.classes) < len(scene.proposals)
    tool.rank(look, FunctionalQuery(text="the kettle", intent="pick", object_words="kettle"))
    assert len(look.classes) == len(scene.proposals)


def test_specks_are_dropped() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:10, 2:10] = mask[15, 15] = True
    assert largest_pieces(mask).sum() == 64
    assert not largest_pieces(np.zeros((5, 5), bool)).any()


def test_real_mug_handle(tool: AffordanceTool, real_frames: Path) -> None:
    """A real RealSense frame, seen during development: a smoke test, not a score."""
    camera = json.loads((real_frames / "red_mug_camera.json").read_text())
    unit = camera["depth_unit_m"]
    intrinsics = CameraIntrinsics(**{k: camera[k] for k in ("width", "height", "fx", "fy", "cx", "cy")})
    color = cv2.imread(str(real_frames / "red_mug_color.png"))[..., ::-1]
    depth = cv2.imread(str(real_frames / "red_mug_depth.png"), cv2.IMREAD_UNCHANGED).astype(np.float32) * unit
    whole = cv2.imread(str(real_frames / "red_mug_object_mask.png"), 0) > 0
    frame = RgbdFrame(np.ascontiguousarray(color), depth.astype(np.float32), intrinsics)
    found = tool.find(frame, find_objects(frame), query("the red mug by its handle", "mug", colour="red"))[0]
    assert iou(found.object_mask, whole) > 0.5
