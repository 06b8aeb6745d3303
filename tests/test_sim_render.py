"""The renderer's conventions, and what the depth sensor does to its pictures."""

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from affordagent.core.geometry import transform_points
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.model import JOINT_NAMES
from affordagent.robot.sim.render import MAX_DEPTH_M, Renderer, camera_of
from affordagent.robot.sim.scene import Scene, build_spec, sample_scene
from affordagent.robot.sim.sensor import NO_NOISE, SensorNoise


@pytest.fixture(scope="module")
def scene() -> Scene:
    return sample_scene("bench", 3)


@pytest.fixture(scope="module")
def shot(scene: Scene) -> Iterator[tuple[Renderer, mujoco.MjData]]:
    """The bench with the arm at LOOK_Q."""
    model = build_spec(scene, samples=0, shadow_size=0).compile()
    data = mujoco.MjData(model)
    data.qpos[[model.joint(name).qposadr[0] for name in JOINT_NAMES]] = LOOK_Q
    mujoco.mj_forward(model, data)
    with Renderer(model) as renderer:
        yield renderer, data


def test_back_projected_table_is_flat_at_zero(shot: tuple[Renderer, mujoco.MjData]) -> None:
    renderer, data = shot
    depth_m, labels = renderer.geometry(data)
    camera, T_base_camera = camera_of(renderer.model)
    points = transform_points(T_base_camera, camera.back_project(depth_m).reshape(-1, 3))
    table = (labels == renderer.model.geom("table").id).ravel()
    assert table.mean() > 0.4
    assert np.abs(points[table, 2]).max() < 1e-4


def test_masks_are_where_the_meshes_project(scene: Scene, shot: tuple[Renderer, mujoco.MjData]) -> None:
    renderer, data = shot
    labels = renderer.labels(data)
    camera, T_base_camera = camera_of(renderer.model)
    for placed in scene.objects:
        mask = renderer.mask(labels, placed.name)
        points = np.concatenate([v.mesh.vertices for v in placed.obj.visuals])
        pixels = camera.project(transform_points(np.linalg.inv(T_base_camera) @ placed.T_base_object, points))
        ys, xs = np.nonzero(mask)
        assert abs(xs.min() - pixels[:, 0].min()) < 1.5
        assert abs(ys.max() - pixels[:, 1].max()) < 1.5
        part = renderer.mask(labels, placed.name, placed.obj.part)
        assert part.sum() > 150
        assert not (part & ~mask).any()
    with pytest.raises(KeyError, match="spoke"):
        renderer.mask(labels, scene.objects[0].name, "spoke")


def test_the_waiting_arm_hides_no_object(scene: Scene, shot: tuple[Renderer, mujoco.MjData]) -> None:
    renderer, data = shot
    bare_model = build_spec(scene, with_arm=False, samples=0, shadow_size=0).compile()
    bare_data = mujoco.MjData(bare_model)
    mujoco.mj_forward(bare_model, bare_data)
    with Renderer(bare_model) as bare:
        bare_labels = bare.labels(bare_data)
        for placed in scene.objects:
            alone, with_arm = bare.mask(bare_labels, placed.name), renderer.mask(renderer.labels(data), placed.name)
            np.testing.assert_array_equal(alone, with_arm)


def test_frame_and_far_depth(shot: tuple[Renderer, mujoco.MjData]) -> None:
    renderer, data = shot
    frame = renderer.to_frame(*renderer.rgbd(data))
    assert frame.color.shape == (480, 640, 3)
    assert frame.T_base_camera is not None
    np.testing.assert_allclose(frame.T_base_camera[:3, 3], (0.938, 0, 0.716))
    assert frame.color.std() > 5
    depth_m, _ = renderer.geometry(data, "overview")
    assert depth_m.max() <= MAX_DEPTH_M
    assert (depth_m == 0).any()


def _slanted() -> tuple[np.ndarray, np.ndarray]:
    color = np.full((120, 160, 3), 128, np.uint8)
    depth = np.tile(np.linspace(0.5, 1.5, 160, dtype=np.float32), (120, 1))
    depth[40:80, 60:100] = 0.45  # a box in front
    return color, depth


def test_no_noise_is_the_identity() -> None:
    color, depth = _slanted()
    noisy_color, noisy = NO_NOISE.apply(color, depth, 600, np.random.default_rng(0))
    np.testing.assert_array_equal(noisy_color, color)
    np.testing.assert_array_equal(noisy, depth)


def test_noise_grows_with_distance_and_setting() -> None:
    color = np.full((120, 160, 3), 128, np.uint8)

    def spread(z: float, axial: float) -> float:
        flat = np.full((120, 160), z, np.float32)
        noise = SensorNoise(axial_per_m=axial, step_per_m=0, flying=0)
        noisy = noise.apply(color, flat, 600, np.random.default_rng(1))[1]
        return float((noisy - flat).std())

    assert spread(0.6, 0.0028) == pytest.approx(0.001, rel=0.1)
    assert spread(0.5, 0.0028) < spread(0.7, 0.0028) < spread(1.2, 0.0028)
    assert spread(0.7, 0.0) < spread(0.7, 0.001) < spread(0.7, 0.004)


def test_shadow_lies_left_of_near_things_and_grows_with_the_baseline() -> None:
    color, depth = _slanted()

    def holes(baseline: float) -> np.ndarray:
        noise = SensorNoise(0, 0, 0, baseline, 0, 0, 0, 0)
        return noise.apply(color, depth, 600, np.random.default_rng(0))[1] == 0

    counts = [int(holes(b).sum()) for b in (0.0, 0.02, 0.05, 0.1)]
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[1]
    assert holes(0.05)[60, 55:60].all()
    assert not holes(0.05)[60, 100:].any()


def test_black_pixels_lose_readings_and_missing_ones_stay_missing() -> None:
    color, depth = _slanted()
    color[:, :30] = 0
    depth[:10] = 0
    noisy = SensorNoise(dark=0.6).apply(color, depth, 600, np.random.default_rng(0))[1]
    assert (noisy[:10] == 0).all()
    assert 0.3 < (noisy[10:, :30] == 0).mean() < 0.9
    assert np.isfinite(noisy).all()
    assert noisy.dtype == np.float32
