"""Procedural hand tools: parts, shapes, colliders, and that they rest where they say they rest."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import trimesh

from affordagent.core.geometry import invert, rotation_angle, transform_points
from affordagent.robot.sim.objects.hand_tools import HAND_TOOLS, HELD_OUT_TOOLS
from affordagent.robot.sim.objects.held_out import HELD_OUT_MORE
from affordagent.robot.sim.objects.model import Collider, HouseholdObject
from affordagent.robot.sim.objects.shapes import NAMED_COLOURS

TOOLS = {**HAND_TOOLS, **HELD_OUT_TOOLS}
HANDLED = {**TOOLS, **HELD_OUT_MORE}
SEEDS = (0, 1, 2)
GEOM = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
}


def make(name: str, seed: int) -> HouseholdObject:
    return HANDLED[name](np.random.default_rng(seed))


def distance_to(collider: Collider, points: np.ndarray) -> np.ndarray:
    """(N,) signed distances in metres (negative inside) of (N, 3) object points to a collider."""
    p = transform_points(invert(collider.T_object_collider), points)
    s = collider.size
    if collider.kind == "box":
        q = np.abs(p) - s
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
    radial, z = np.hypot(p[:, 0], p[:, 1]), np.abs(p[:, 2])
    if collider.kind == "capsule":
        return np.hypot(radial, np.maximum(z - s[1], 0)) - s[0]
    if collider.kind == "sphere":
        return np.linalg.norm(p, axis=1) - s[0]
    q = np.stack([radial - s[0], z - s[1]], 1)
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)


@pytest.mark.parametrize("name", TOOLS)
def test_parts_meshes_and_mass(name: str) -> None:
    for seed in SEEDS:
        tool = make(name, seed)
        assert tool.category == name
        assert tool.part == "handle"
        assert "handle" in tool.parts
        assert len(tool.parts) >= 2
        assert tool.colour in NAMED_COLOURS
        assert {c.part for c in tool.colliders} <= set(tool.parts)
        assert sum(len(v.mesh.faces) for v in tool.visuals) < 6000
        for v in tool.visuals:
            assert v.mesh.is_watertight, (seed, v.part)
            assert v.mesh.volume > 0, (seed, v.part)
        assert 0.05 <= tool.mass_kg <= 0.75
        assert all(c.mass_kg > 0 for c in tool.colliders)
        low, high = tool.bounds
        assert abs(low[2]) < 1e-3
        assert high[2] < 0.09
        assert np.allclose(low[:2] + high[:2], 0, atol=1e-6)


@pytest.mark.parametrize("name", TOOLS)
def test_same_seed_same_tool_other_seed_other_shape(name: str) -> None:
    a, b = make(name, 3), make(name, 3)
    assert a.colour == b.colour
    assert a.parameters == b.parameters
    for u, v in zip(a.visuals, b.visuals, strict=True):
        assert np.array_equal(u.mesh.vertices, v.mesh.vertices)
    extents = np.array([np.diff(make(name, seed).bounds, axis=0)[0] for seed in range(8)])
    gaps = np.abs(extents[:, None] - extents[None]).max(-1)[np.triu_indices(8, 1)]
    assert gaps.min() > 5e-4
    assert extents[:, :2].max(1).std() > 0.008


@pytest.mark.parametrize("name", HANDLED)
def test_colliders_cover_the_handle(name: str) -> None:
    for seed in SEEDS:
        tool = make(name, seed)
        mesh = trimesh.util.concatenate([v.mesh for v in tool.visuals if v.part == "handle"])
        points = trimesh.sample.sample_surface(mesh, 600, seed=0)[0]
        for c in tool.colliders:  # where the handle is sunk into another part nothing can touch it
            points = points if c.part == "handle" else points[distance_to(c, points) > 0]
        gap = np.min([distance_to(c, points) for c in tool.colliders if c.part == "handle"], axis=0)
        assert np.median(np.abs(gap)) < 0.002, seed
        assert np.quantile(gap, 0.95) < 0.004, seed


def width_at_mid_height(mesh: trimesh.Trimesh) -> float:
    """The shorter side of the smallest rectangle around the mesh's horizontal section at mid height, metres."""
    section = mesh.section(plane_origin=mesh.bounds.mean(0), plane_normal=[0, 0, 1])
    assert section is not None
    return float(min(trimesh.bounds.oriented_bounds_2D(section.vertices[:, :2])[1]))


@pytest.mark.parametrize("name", sorted(HANDLED.keys() - {"tongs"}))
def test_the_handle_can_be_pinched_from_above(name: str) -> None:
    """High enough for finger tips 2.5 mm above the table, and narrow enough for them to close on."""
    for seed in SEEDS:
        handle = [v.mesh for v in make(name, seed).visuals if v.part == "handle"]
        top = max(m.bounds[1, 2] for m in handle)
        assert top > 0.0085, seed
        assert any(0.008 <= width_at_mid_height(mesh) <= 0.045 for mesh in handle), seed


@pytest.mark.parametrize("name", [*(n for n in TOOLS if "pliers" in n), "tongs"])
def test_the_gripper_closes_over_both_handles(name: str) -> None:
    for seed in range(8):
        bars = [v.mesh.bounds[:, 1] for v in make(name, seed).visuals if v.part == "handle"]
        assert np.max(bars) - np.min(bars) < 0.075, seed


def settling_model(tools: list[HouseholdObject]) -> tuple[mujoco.MjModel, np.ndarray]:
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.002
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 50
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[9, 9, 0.1], condim=4, friction=[0.8, 0.005, 1e-4])
    start = np.array([[i % 5 * 0.6, i // 5 * 0.6, 0.0] for i in range(len(tools))])
    for tool, position in zip(tools, start, strict=True):
        body = spec.worldbody.add_body(pos=position)
        body.add_freejoint()
        for c in tool.colliders:
            size = np.zeros(3)
            size[: len(c.size)] = c.size
            quat = trimesh.transformations.quaternion_from_matrix(c.T_object_collider)
            body.add_geom(
                type=GEOM[c.kind], size=size, pos=c.T_object_collider[:3, 3], quat=quat, mass=c.mass_kg, condim=4,
                friction=[0.8, 0.005, 1e-4],
            )  # fmt: skip
    return spec.compile(), start


def test_tools_rest_as_they_say() -> None:
    names = [(name, seed) for name in TOOLS for seed in SEEDS]
    model, start = settling_model([make(*n) for n in names])
    data = mujoco.MjData(model)
    for _ in range(500):
        mujoco.mj_step(model, data)
    for i, name in enumerate(names):
        moved = np.linalg.norm(data.xpos[i + 1] - start[i])
        turned = np.degrees(rotation_angle(data.xmat[i + 1].reshape(3, 3)))
        assert moved < 0.006, f"{name}: {1000 * moved:.1f} mm"
        assert turned < 6, f"{name}: {turned:.1f} degrees"
