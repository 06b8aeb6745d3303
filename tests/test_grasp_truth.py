"""The judge of grasps on true meshes, on solids whose answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from affordagent.core.geometry import Array, rigid
from affordagent.core.types import Grasp
from affordagent.evaluations.grasp_truth import Trial, TrueSurfaces, run_trial, summary

DOWN = np.diag([1.0, -1.0, -1.0])  # approach straight down, closing along the base's y


def surfaces(**things: list[tuple[str, trimesh.Trimesh]]) -> TrueSurfaces:
    return TrueSurfaces({name: [(p, m.vertices, m.faces) for p, m in parts] for name, parts in things.items()})


def bar(y_m: float = 0.03, at: tuple[float, float, float] = (0.45, 0.0, 0.05), turned: float = 0.0) -> trimesh.Trimesh:
    mesh = trimesh.creation.box((0.12, y_m, 0.1))
    mesh.apply_transform(trimesh.transformations.rotation_matrix(turned, [0, 0, 1]))
    mesh.apply_translation(at)
    return mesh


def grasp(x: float = 0.45, y: float = 0.0, z: float = 0.085, width_m: float = 0.03, R: Array = DOWN) -> Grasp:
    return Grasp(rigid(R, [x, y, z]), width_m, 1.0)


def test_across_a_bar() -> None:
    assert surfaces(bar=[("body", bar())]).judge(grasp(), "bar", "body") == "valid"


def test_the_hand_may_be_off_amid_the_opening_but_not_beyond() -> None:
    scene = surfaces(bar=[("body", bar())])
    assert scene.judge(grasp(y=0.007), "bar", "body") == "valid"
    assert scene.judge(grasp(y=0.014), "bar", "body") == "hits own object"


def test_too_deep() -> None:
    """The palm or the knuckles reach the bar before the tips reach the table."""
    assert surfaces(bar=[("body", bar())]).judge(grasp(z=0.02), "bar", "body") == "hits own object"


def test_the_table() -> None:
    low = bar(at=(0.45, 0.0, -0.04))
    assert surfaces(bar=[("body", low)]).judge(grasp(z=0.0), "bar", "body") == "hits table"


def test_a_neighbour() -> None:
    scene = surfaces(bar=[("body", bar())], can=[("body", bar(at=(0.45, 0.045, 0.05)))])
    assert scene.judge(grasp(), "bar", "body") == "hits neighbour"


def test_beside_the_bar() -> None:
    assert surfaces(bar=[("body", bar())]).judge(grasp(x=0.60), "bar", "body") == "no contact"


def test_the_other_part() -> None:
    """Handle on the left half, head on the right half."""
    half = trimesh.creation.box((0.06, 0.03, 0.1))
    left, right = half.copy(), half.copy()
    left.apply_translation((0.42, 0, 0.05))
    right.apply_translation((0.48, 0, 0.05))
    scene = surfaces(tool=[("handle", left), ("head", right)])
    assert scene.judge(grasp(x=0.42), "tool", "handle") == "valid"
    assert scene.judge(grasp(x=0.48), "tool", "handle") == "wrong part"
    assert scene.judge(grasp(x=0.48), "tool", "head") == "valid"


@pytest.mark.parametrize(("degrees", "verdict"), [(10, "valid"), (35, "slips")])
def test_friction(degrees: float, verdict: str) -> None:
    """Pads closing askew on parallel faces: atan(0.5) = 26.6 degrees is the limit."""
    scene = surfaces(bar=[("body", bar(0.02, turned=np.radians(degrees)))])
    assert scene.judge(grasp(width_m=0.06), "bar", "body") == verdict


def test_a_cone_is_squeezed_out() -> None:
    cone = trimesh.creation.cone(0.03, 0.05)
    cone.apply_translation((0.45, 0, 0.005))
    assert surfaces(cone=[("body", cone)]).judge(grasp(z=0.05, width_m=0.05), "cone", "body") == "slips"


def test_a_neck_that_is_met_aslant() -> None:
    """Both pads lie flat, but one far above the other: the line between them leaves the friction cones."""
    low, high = trimesh.creation.box((0.03, 0.01, 0.02)), trimesh.creation.box((0.03, 0.01, 0.02))
    low.apply_translation((0.45, -0.005, 0.05))
    high.apply_translation((0.45, 0.005, 0.085))
    scene = surfaces(thing=[("body", low), ("body", high)])
    verdict = scene.judge(grasp(z=0.065, width_m=0.02), "thing", "body")
    assert verdict == "does not oppose"


def test_a_scene_of_the_cell() -> None:
    row = run_trial(Trial("mixed", 2, noise=False))
    numbers = summary([row])
    assert numbers["targets"] == 5
    assert numbers["top_20"]["n"] <= 100
    assert numbers["top_20"]["rate"] > 0.7
    assert sum(numbers["reasons_top_20"].values()) == numbers["top_20"]["n"]
