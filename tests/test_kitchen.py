"""Kitchen tools and whole things: exact parts, true rest on the table, variety and determinism."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from affordagent.core.catalogue import catalogue
from affordagent.core.geometry import Array, rotation_angle
from affordagent.robot.sim.objects.hand_tools import HAND_TOOLS, HELD_OUT_TOOLS
from affordagent.robot.sim.objects.kitchen import HELD_OUT_KITCHEN, KITCHEN
from affordagent.robot.sim.objects.library import CATEGORIES, EXTRA, HANDAL, HELD_OUT, make
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.shapes import NAMED_COLOURS
from affordagent.robot.sim.objects.whole import WHOLE

NAMES = sorted((CATEGORIES.keys() | EXTRA.keys() | HELD_OUT.keys()) - HAND_TOOLS.keys() - HELD_OUT_TOOLS.keys())
EXTRA_WHOLE = {"plate", "tumbler", "funnel", "tape roll", "tape measure", "spray bottle"}
SEEDS = range(6)
MASS_KG = {
    "mug": (0.24, 0.36),
    "pot or pan": (0.34, 0.61),
    "utensil": (0.035, 0.085),
    "whisk": (0.06, 0.16),
    "measuring cup": (0.05, 0.25),
    "bottle": (0.1, 0.4),
    "rolling pin": (0.25, 0.5),
    "kettle": (0.35, 0.7),
    "toothbrush": (0.012, 0.16),
}
GEOM = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
}


def _quaternion(R: Array) -> Array:
    q = np.zeros(4)
    mujoco.mju_mat2Quat(q, np.ascontiguousarray(R).ravel())
    return q


def _settled(objects: list[HouseholdObject], seconds: float = 1.0) -> list[tuple[float, float]]:
    """Metres and radians each object moves when it is let go on a plane where it was built to rest."""
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.002
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 50
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[9, 9, 0.1])
    for i, obj in enumerate(objects):
        body = spec.worldbody.add_body(pos=[0.5 * (i % 10), 0.5 * (i // 10), 0])
        body.add_freejoint()
        for c in obj.colliders:
            body.add_geom(
                type=GEOM[c.kind],
                size=[*c.size, 0, 0][:3],
                pos=c.T_object_collider[:3, 3],
                quat=_quaternion(c.T_object_collider[:3, :3]),
                mass=c.mass_kg,
                condim=4,
                friction=[0.8, 0.005, 0.0001],
            )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    start = data.xpos.copy()
    for _ in range(round(seconds / model.opt.timestep)):
        mujoco.mj_step(model, data)
    return [
        (float(np.linalg.norm(data.xpos[i] - start[i])), rotation_angle(data.xmat[i].reshape(3, 3)))
        for i in range(1, model.nbody)
    ]


def test_tables_name_every_category() -> None:
    assert set(HANDAL) <= CATEGORIES.keys()
    assert len(HANDAL) == 17
    assert {"knife", "scissors"} | WHOLE.keys() | KITCHEN.keys() <= CATEGORIES.keys()
    assert not CATEGORIES.keys() & HELD_OUT.keys()
    assert not EXTRA.keys() & (CATEGORIES.keys() | HELD_OUT.keys() | set(catalogue()))
    assert EXTRA_WHOLE <= EXTRA.keys()
    assert {"bowl", "rolling pin", "ice cream scoop"} == HELD_OUT_KITCHEN.keys()


def test_unknown_category_suggests_a_known_one() -> None:
    with pytest.raises(ValueError, match=r"'spatla'.*did you mean 'spatula'"):
        make("spatla", 0)


@pytest.mark.parametrize("name", NAMES)
def test_parts_rest_and_mass(name: str) -> None:
    for seed in SEEDS:
        obj = make(name, seed)
        low, high = obj.bounds
        assert obj.category == name
        assert obj.part in obj.parts
        assert obj.part == ("body" if name in WHOLE.keys() | EXTRA_WHOLE | {"bowl"} else "handle")
        assert obj.colour in NAMED_COLOURS
        assert {c.part for c in obj.colliders} <= set(obj.parts)
        assert obj.part in {c.part for c in obj.colliders}
        assert abs(low[2]) < 1e-3
        assert np.abs(low[:2] + high[:2]).max() < 1e-6
        assert 0.05 < (high - low).max() < 0.45 or name == "ball"
        assert sum(len(v.mesh.faces) for v in obj.visuals) < 8000
        assert all(v.mesh.volume > 0 and v.mesh.is_watertight for v in obj.visuals)
        least, most = MASS_KG.get(name, (0.03, 0.45))
        assert least < obj.mass_kg < most


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_and_varied(name: str) -> None:
    first, again = make(name, 5), make(name, 5)
    assert first.parameters == again.parameters
    for a, b in zip(first.visuals, again.visuals, strict=True):
        assert np.array_equal(a.mesh.vertices, b.mesh.vertices)
        assert a.rgba == b.rgba
    sizes = np.array([np.ptp(make(name, seed).bounds, axis=0) for seed in SEEDS])
    assert len(np.unique(np.round(sizes, 4), axis=0)) == len(SEEDS)
    assert (sizes.max(0) / sizes.min(0)).max() > 1.1
    assert len({make(name, seed).visuals[0].rgba for seed in SEEDS}) > 3


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_whole_things_fit_the_gripper(name: str) -> None:
    """Seen from above, some horizontal direction is less than 80 mm across."""
    angles = np.linspace(0, np.pi, 37)
    across = np.stack([np.cos(angles), np.sin(angles)])
    for seed in range(20):
        points = np.concatenate([v.mesh.vertices for v in make(name, seed).visuals])
        assert np.ptp(points[:, :2] @ across, axis=0).min() < 0.08


@pytest.mark.parametrize("name", sorted({**KITCHEN, **HELD_OUT_KITCHEN}.keys() - {"bowl", "mug", "pot or pan"}))
def test_handles_can_be_pinched_above_the_table(name: str) -> None:
    """Somewhere the handle reaches 8 mm above the table or more in at least three of four instances."""
    heights = []
    for seed in range(16):
        obj = make(name, seed)
        heights.append(max(v.mesh.bounds[1, 2] for v in obj.visuals if v.part == "handle"))
        assert 0.006 <= obj.parameters["handle_width"] <= 0.045
    assert np.mean(np.array(heights) > 0.008) >= 0.75


def test_objects_stay_where_they_were_built() -> None:
    names = [name for name in NAMES if name not in EXTRA for _ in range(4)]
    objects = [make(name, 100 + i) for i, name in enumerate(names)]
    moved = {
        f"{name} {100 + i}": (round(1e3 * distance, 1), round(np.rad2deg(angle), 1))
        for i, (name, (distance, angle)) in enumerate(zip(names, _settled(objects), strict=True))
        if distance > 6e-3 or angle > np.deg2rad(6)
    }
    assert not moved, f"moved by (mm, degrees): {moved}"
