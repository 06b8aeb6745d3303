"""Scenes of the simulated cell: repeatable, roomy, in reach and in view."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import invert, transform_points
from affordagent.robot.model import ACTUATOR_NAMES, TCP_SITE
from affordagent.robot.sim import placement
from affordagent.robot.sim.bodies import geom_parts
from affordagent.robot.sim.objects import library
from affordagent.robot.sim.placement import (
    BETWEEN_M,
    GRIPPER_ROOM_M,
    OBJECT_AREA_M,
    PART_AREA_M,
    apart,
    footprint,
    gap,
    hull_gap,
)
from affordagent.robot.sim.scene import (
    SCENES,
    TEST_SEEDS,
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    arrange,
    build_spec,
    sample_scene,
)

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])


@given(
    shift=st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
    turn=st.floats(0, 6.3),
    size=st.floats(0.2, 2),
)
@settings(max_examples=60, deadline=None)
def test_hull_gap_never_exceeds_the_distance_and_knows_overlap(
    shift: tuple[float, float], turn: float, size: float
) -> None:
    R = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    other = size * SQUARE @ R.T + shift
    steps = np.linspace(0, 1, 15)[:, None]

    def filled(hull: np.ndarray) -> np.ndarray:
        bottom, top = hull[0] + steps * (hull[1] - hull[0]), hull[3] + steps * (hull[2] - hull[3])
        return np.concatenate([bottom + t * (top - bottom) for t in np.linspace(0, 1, 15)])

    sampled = np.linalg.norm(filled(SQUARE)[:, None] - filled(other)[None], axis=2).min()
    found = hull_gap(SQUARE, other)
    assert found == pytest.approx(hull_gap(other, SQUARE))
    assert found <= sampled + 1e-9
    if sampled > 0.25:  # farther than the samples' spacing: certainly apart
        assert found > 0


@pytest.mark.parametrize("name", sorted(SCENES))
def test_scene_keeps_its_promises(name: str) -> None:
    scene = sample_scene(name, 11)
    assert len(scene.objects) == SCENES[name].count
    assert len({o.name for o in scene.objects}) == len(scene.objects)
    camera, T_camera_base = scene.camera.intrinsics, invert(scene.camera.T_base_camera)
    prints = [footprint(o.obj, o.T_base_object) for o in scene.objects]
    for placed, there in zip(scene.objects, prints, strict=True):
        low, high = np.array(PART_AREA_M).T
        centre = there.centre(placed.obj.part)
        assert (centre >= low - 2e-3).all()
        assert (centre <= high + 2e-3).all()
        outline = np.concatenate(there.hulls)
        assert (outline >= np.array(OBJECT_AREA_M)[:, 0] - 2e-3).all()
        assert (outline <= np.array(OBJECT_AREA_M)[:, 1] + 2e-3).all()
        for visual in placed.obj.visuals:
            pixels = camera.project(transform_points(T_camera_base @ placed.T_base_object, visual.mesh.vertices))
            assert pixels.min() >= 0
            assert (pixels <= [camera.width - 1, camera.height - 1]).all()
    for i, one in enumerate(prints):
        for k, other in enumerate(prints):
            if i != k:
                assert apart(one, other, BETWEEN_M - 1e-3)
                assert gap(one, other, part_a=scene.objects[i].obj.part) >= GRIPPER_ROOM_M - 1e-3


def test_what_stands_in_the_named_scenes() -> None:
    bench = {o.category for o in sample_scene("bench", 5).objects}
    assert bench >= {"hammer", "mug", "pot or pan", "screwdriver", "spatula"}
    assert len(bench) == 6
    assert len({o.category for o in sample_scene("mixed", 5).objects}) == 5
    twins = sample_scene("twins", 5).objects
    same = [o for o in twins if sum(o.category == p.category for p in twins) == 2]
    assert len(same) == 2
    assert same[0].obj.colour != same[1].obj.colour
    novel = [o.category for o in sample_scene("novel", 5).objects]
    assert sum(c in library.HELD_OUT for c in novel) == 3
    assert sum(c in library.CATEGORIES for c in novel) == 2


def test_scenes_are_repeatable_and_differ_by_seed() -> None:
    a, b, c = sample_scene("mixed", 3), sample_scene("mixed", 3), sample_scene("mixed", 4)
    assert [o.name for o in a.objects] == [o.name for o in b.objects]
    for one, other in zip(a.objects, b.objects, strict=True):
        np.testing.assert_array_equal(one.T_base_object, other.T_base_object)
        np.testing.assert_array_equal(one.obj.visuals[0].mesh.vertices, other.obj.visuals[0].mesh.vertices)
    assert a.appearance == b.appearance
    assert not np.array_equal(a.objects[0].T_base_object, c.objects[0].T_base_object)


def test_instance_seeds_of_the_splits_do_not_overlap() -> None:
    assert TRAINING_SEEDS.stop <= VALIDATION_SEEDS.start < VALIDATION_SEEDS.stop <= TEST_SEEDS.start


def test_errors_name_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "ARRANGEMENTS", 2)
    with pytest.raises(AffordAgentError, match="bench"):
        sample_scene("garage", 0)
    pans = [library.make("pot or pan", TEST_SEEDS.start + i) for i in range(12)]
    with pytest.raises(AffordAgentError, match="fewer or smaller objects"):
        arrange(pans, np.random.default_rng(0), "crowd", 0)


def test_model_holds_arm_objects_and_part_names() -> None:
    scene = sample_scene("kitchen", 2)
    model = build_spec(scene).compile()
    assert model.site(TCP_SITE).id >= 0
    assert [model.actuator(a).id for a in ACTUATOR_NAMES] == list(range(6))
    assert model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
    assert model.opt.timestep == pytest.approx(0.002)
    parts = geom_parts(model)
    for placed in scene.objects:
        wanted = {v.part for v in placed.obj.visuals} | {c.part for c in placed.obj.colliders}
        assert {p for o, p in parts.values() if o == placed.name} == wanted
    table = model.geom("table")
    assert table.pos[2] + table.size[2] == pytest.approx(0.0)


def test_objects_stay_where_they_are_put() -> None:
    scene = sample_scene("bench", 1)
    model = build_spec(scene, with_arm=False).compile()
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=500)
    for placed in scene.objects:
        moved = np.linalg.norm(data.body(placed.name).xpos - placed.T_base_object[:3, 3])
        assert moved < 0.02, f"{placed.name} moved {moved * 1000:.0f} mm"
