"""Procedural textures: (N, N, 3) uint8 images that tile."""

from __future__ import annotations

from typing import Literal

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from affordagent.robot.sim.objects.shapes import Rgba, sample_colour

Image = NDArray[np.uint8]
TableKind = Literal["wood", "speckle", "plain", "cloth", "checker"]
TABLE_KINDS: tuple[TableKind, ...] = ("wood", "speckle", "plain", "cloth", "checker")


def _noise(rng: np.random.Generator, size: int, sigma: float | tuple[float, float]) -> NDArray[np.float64]:
    field = gaussian_filter(rng.normal(size=(size, size)), sigma, mode="wrap")
    return field / field.std()


def _blend(weight: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> Image:
    w = np.clip(weight, 0, 1)[..., None]
    return np.clip((a * (1 - w) + b * w) * 255, 0, 255).astype(np.uint8)


def table_image(rng: np.random.Generator, kind: TableKind, size: int = 256) -> Image:
    """A table top. Wood: streaks of one plank colour; the others in any colour, mostly low in contrast."""
    y, x = np.mgrid[:size, :size] / size
    first = np.array(sample_colour(rng)[1][:3])
    second = np.clip(first * rng.uniform(0.6, 1.5) + rng.normal(0, 0.05, 3), 0, 1)
    if kind == "wood":
        first = rng.uniform(0.45, 0.85) * np.array([1.0, rng.uniform(0.66, 0.82), rng.uniform(0.38, 0.62)])
        second = first * rng.uniform(0.6, 0.85)
        bands = np.sin(2 * np.pi * (rng.integers(4, 12) * x + 0.3 * _noise(rng, size, 40)))
        return _blend(0.5 + 0.2 * _noise(rng, size, (size / 12, 2)) + 0.12 * bands, first, second)
    if kind == "speckle":
        return _blend(0.5 + 0.3 * _noise(rng, size, rng.uniform(0.5, 8)), first, second)
    if kind == "cloth":
        threads = np.sin(2 * np.pi * 64 * x) * np.sin(2 * np.pi * 64 * y)
        return _blend(0.5 + 0.3 * threads + 0.15 * _noise(rng, size, 1.5), first, second)
    if kind == "checker":
        squares = rng.integers(2, 7) * 2
        board = (np.floor(x * squares) + np.floor(y * squares)) % 2
        return _blend(board * rng.uniform(0.3, 1) + 0.08 * _noise(rng, size, 2), first, second)
    return _blend(0.06 * _noise(rng, size, 1) + 0.5, first, second * 0.3 + first * 0.7)


def grain_image(rng: np.random.Generator, size: int = 128) -> Image:
    """Light grey wood grain, to be multiplied with the wood's colour."""
    v = np.clip(0.85 + 0.07 * _noise(rng, size, (size / 8, 1.2)), 0.5, 1.0)
    return np.repeat((v * 255).astype(np.uint8)[..., None], 3, axis=2)


def skin_image(rng: np.random.Generator, size: int = 128) -> Image:
    """Light mottled skin of fruit and vegetables, to be multiplied with their colour."""
    v = np.clip(0.88 + 0.06 * _noise(rng, size, 6) + 0.03 * _noise(rng, size, 1), 0.5, 1.0)
    return np.repeat((v * 255).astype(np.uint8)[..., None], 3, axis=2)


def print_image(rng: np.random.Generator, size: int = 128) -> Image:
    """A printed label: rectangles, discs and letters on white, to be multiplied with the object's colour."""
    image = np.full((size, size, 3), 255, np.uint8)

    def paint() -> tuple[int, int, int]:
        r, g, b = (int(v * 255) for v in sample_colour(rng)[1][:3])
        return r, g, b

    for _ in range(rng.integers(2, 8)):
        corner, extent = rng.integers(0, size, 2), rng.integers(4, size // 2, 2)
        if rng.random() < 0.6:
            cv2.rectangle(image, corner.tolist(), (corner + extent).tolist(), paint(), -1)
        else:
            cv2.circle(image, corner.tolist(), int(extent[0] // 2), paint(), int(rng.choice([-1, 2, 4])))
    for _ in range(rng.integers(1, 6)):
        word = "".join(rng.choice(list("ABCDEGHKMNORST"), 4))
        at, scale, thick = rng.integers(0, size, 2).tolist(), float(rng.uniform(0.4, 1.2)), int(rng.integers(1, 3))
        cv2.putText(image, word, at, cv2.FONT_HERSHEY_SIMPLEX, scale, paint(), thick)
    return image


def add_material(
    spec: mujoco.MjSpec,
    name: str,
    image: Image | None = None,
    cube: bool = False,
    repeat: float = 1.0,
    rgba: Rgba = (1, 1, 1, 1),
    specular: float = 0.1,
    shininess: float = 0.2,
) -> None:
    """A material, with `image` laid flat (2D, `repeat` tiles a metre) or, for meshes without UVs, projected (cube)."""
    material = spec.add_material(name=name, specular=specular, shininess=shininess, rgba=rgba)
    if image is None:
        return
    kind = mujoco.mjtTexture.mjTEXTURE_CUBE if cube else mujoco.mjtTexture.mjTEXTURE_2D
    pixels = np.vstack([image] * 6) if cube else image
    texture = spec.add_texture(name=name, type=kind, width=image.shape[1], height=pixels.shape[0], nchannel=3)
    texture.data = pixels.tobytes()
    names = list(material.textures)
    names[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    material.textures = names
    if not cube:
        material.texrepeat, material.texuniform = [repeat, repeat], True
