"""Training pictures for the object proposals: windows of rendered scenes with every thing's outline.

Tables and things get painted over with made-up textures some of the time, so that neither a table's pattern nor a
label on a box is taken for a thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.types import box_of
from affordagent.finetune.mini_data import CLUTTER, Row, batch_rng, photometric

SHAPES = ((224, 320), (288, 384), (256, 256), (320, 224), (192, 320))  # height, width
MIN_THING_PX = 60  # in the window; less is shown as background
Image = NDArray[np.uint8]
Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Sample:
    """image: (3, h, w) uint8 RGB; things: (h/4, w/4) int64 number of the thing from 1, 0 = background; foreground:
    (h/2, w/2) float32 share of the pixel that things cover."""

    image: Image
    things: NDArray[np.int64]
    foreground: NDArray[np.float32]


def thing_ids(row: Row) -> Ids:
    """(H, W) numbers of the things from 1, clutter's pieces after the labelled ones, 0 = background."""
    labels = row.labels()
    ids = np.where((labels == 0) | (labels == CLUTTER), 0, labels // 8 + 1).astype(np.int32)  # slots from 0
    _, pieces = cv2.connectedComponents((labels == CLUTTER).astype(np.uint8))
    return np.where(pieces > 0, pieces + 32, ids)


def sample_batch(rows: list[Row], count: int, seed: int, step: int) -> list[Sample]:
    """`count` samples of one shape, the same for the same seed, step and rows."""
    rng = batch_rng(seed, step)
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    return [sample(rows[int(rng.integers(len(rows)))], shape, rng) for _ in range(count)]


def sample(row: Row, shape: tuple[int, int], rng: np.random.Generator) -> Sample:
    """One window of a picture, painted over and lit at random."""
    ids = thing_ids(row)
    x0, y0, side = window(ids, shape, rng)
    step = side / shape[1]
    to_source = np.array([[step, 0, x0 + step / 2 - 0.5], [0, step, y0 + step / 2 - 0.5]])
    if rng.random() < 0.5:
        to_source[0] = [-step, 0, x0 + side - step / 2 - 0.5]
    size, flags = shape[::-1], cv2.WARP_INVERSE_MAP
    source = row.color()
    if step > 1.2:
        source = np.asarray(cv2.GaussianBlur(source, (0, 0), 0.4 * step))
    image = cv2.warpAffine(source, to_source, size, flags=flags | cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ids = cv2.warpAffine(ids.astype(np.int16), to_source, size, flags=flags | cv2.INTER_NEAREST).astype(np.int32)
    area = np.bincount(ids.ravel())
    ids[(area < MIN_THING_PX)[ids]] = 0
    image = photometric(painted(np.asarray(image, np.uint8), ids, rng), rng)
    half = (shape[1] // 2, shape[0] // 2)
    covered = np.asarray(cv2.resize((ids > 0).astype(np.float32), half, interpolation=cv2.INTER_AREA), np.float32)
    blocks = ids.reshape(shape[0] // 4, 4, shape[1] // 4, 4)
    things = np.unique(blocks.max((1, 3)), return_inverse=True)[1].reshape(shape[0] // 4, shape[1] // 4)
    if (ids > 0).all():
        things = things + 1
    return Sample(np.ascontiguousarray(image.transpose(2, 0, 1)), things.astype(np.int64), covered)


def window(ids: Ids, shape: tuple[int, int], rng: np.random.Generator) -> tuple[float, float, float]:
    """(left, top, width) of what to show: mostly the whole view, else a closer look at one thing."""
    height, width = ids.shape
    aspect = shape[1] / shape[0]
    most = min(width, height * aspect)
    names = np.unique(ids[ids > 0])
    if rng.random() < 0.5 or not len(names):
        side = most * rng.uniform(0.6, 1.0)
        return float(rng.uniform(0, width - side)), float(rng.uniform(0, height - side / aspect)), float(side)
    boxes = [box_of(ids == name) for name in names]
    sizes = np.array([max(x1 - x0, (y1 - y0) * aspect) for x0, y0, x1, y1 in boxes], float)
    pick = int(rng.choice(len(names), p=sizes / sizes.sum()))
    x0, y0, x1, y1 = boxes[pick]
    side = min(most, max(90.0, sizes[pick] * np.exp(rng.uniform(np.log(1.02), np.log(3.5)))))
    slack = (max(0.0, side - (x1 - x0)) / 2, max(0.0, side / aspect - (y1 - y0)) / 2)
    left = (x0 + x1 - side) / 2 + rng.uniform(-0.8, 0.8) * slack[0]
    top = (y0 + y1 - side / aspect) / 2 + rng.uniform(-0.8, 0.8) * slack[1]
    return float(np.clip(left, 0, width - side)), float(np.clip(top, 0, height - side / aspect)), float(side)


def painted(image: Image, ids: Ids, rng: np.random.Generator) -> Image:
    """The picture with another ground, and with prints on some of its things."""
    out = image.copy()
    shape = image.shape[:2]
    if rng.random() < 0.45:
        ground = ids == 0
        light = image[ground].mean(1, keepdims=True) / max(float(image[ground].mean()), 1.0) if ground.any() else 1.0
        strength = rng.uniform(0.3, 1.0)
        paint = studio(shape, rng) if rng.random() < 0.25 else texture(shape, rng)
        out[ground] = np.clip(paint[ground] * light**strength, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        out = np.where(ids[..., None] > 0, out, lined(out, rng))
    for name in np.unique(ids[ids > 0]):
        if rng.random() < 0.35:
            for _ in range(int(rng.integers(1, 4))):
                print_on(out, ids == name, rng)
    return out


def lined(image: Image, rng: np.random.Generator) -> Image:
    """The picture with joints, cracks or edges: lines from border to border, no things."""
    shape = image.shape[:2]
    out = image.copy()
    for _ in range(int(rng.integers(1, 4))):
        angle, reach = rng.uniform(0, np.pi), 2 * max(shape)
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        ends = [(int(x + s * reach * np.cos(angle)), int(y + s * reach * np.sin(angle))) for s in (-1, 1)]
        colour = (image.reshape(-1, 3).mean(0) * rng.uniform(0.1, 1.6)).clip(0, 255).tolist()
        cv2.line(out, ends[0], ends[1], colour, int(rng.integers(1, 6)), cv2.LINE_AA)
    return out


def print_on(image: Image, thing: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """A label, a band or a pattern on one thing, in place."""
    x0, y0, x1, y1 = box_of(thing)
    width, height = x1 - x0, y1 - y0
    area = np.zeros((height, width), np.uint8)
    middle = (float(rng.uniform(0.2, 0.8) * width), float(rng.uniform(0.2, 0.8) * height))
    axes = (float(rng.uniform(0.2, 1.1) * width), float(rng.uniform(0.2, 1.1) * height))
    if rng.random() < 0.6:
        corners = cv2.boxPoints((middle, axes, float(rng.uniform(0, 180))))
        cv2.fillPoly(area, [corners.astype(np.int32)], 1)
    else:
        half = (int(axes[0] / 2) + 1, int(axes[1] / 2) + 1)
        cv2.ellipse(area, (int(middle[0]), int(middle[1])), half, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    paint = texture((height, width), rng)
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 4))):
            where = (int(rng.uniform(-0.1, 0.5) * width), int(rng.uniform(0.2, 1.0) * height))
            word = "".join(rng.choice(list("ABDEHKMORSTX8"), 5))
            scale, thick = float(rng.uniform(0.2, 1.2)) * width / 60, int(rng.integers(1, 4))
            cv2.putText(paint, word, where, cv2.FONT_HERSHEY_DUPLEX, scale, _colour(rng).tolist(), thick, cv2.LINE_AA)
    local = image[y0:y1, x0:x1]
    own = (area > 0) & thing[y0:y1, x0:x1]
    if own.any():
        light = local[own].mean(1, keepdims=True) / max(float(local[own].mean()), 1.0)
        local[own] = np.clip(paint[own] * light ** rng.uniform(0.3, 1.0), 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(0, 1), rng.uniform(0.15, 1)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64) * 255


def studio(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Plain paper that darkens to one side."""
    colour = np.full(3, rng.uniform(170, 255)) if rng.random() < 0.7 else _colour(rng)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[: shape[0], : shape[1]]
    ramp = (np.cos(angle) * x + np.sin(angle) * y) / max(shape)
    return np.clip(colour * (1 - rng.uniform(0, 0.35) * (ramp - ramp.min()))[..., None], 0, 255).astype(np.uint8)


def texture(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Grain, spots, boards, stripes or checks in a few colours, as grain often is: two of them mixed."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle = float(rng.uniform(0, np.pi))
    along, across = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
    period = float(np.exp(rng.uniform(np.log(6), np.log(120))))
    kind = int(rng.integers(5))
    if kind == 0:  # spots
        field = _noise(shape, period / 2, period / 2, rng)
    elif kind == 1:  # grain of wood: noise drawn out along one axis, and bent
        bend = 3 * _noise(shape, 40, 40, rng)
        row = rng.standard_normal(4096).astype(np.float32)
        row = np.asarray(cv2.GaussianBlur(row[None], (0, 0), float(rng.uniform(0.7, 4))))[0]
        field = row[((across + period * 0.1 * bend) * 3).astype(int) % 4096] + 0.5 * _noise(shape, 12, 2, rng)
    elif kind == 2:  # stripes
        field = np.sign(np.sin(along * 2 * np.pi / period) - rng.uniform(-0.8, 0.8)).astype(np.float32)
    elif kind == 3:  # checks, tiles
        tile = np.floor(along / period) + np.floor(across / period)
        joints = np.minimum(along % period, across % period) < rng.uniform(0.5, 3)
        field = ((tile % 2) * float(rng.random() < 0.5) + 2.0 * joints).astype(np.float32)
    else:  # planks with joints
        joints = (across % (4 * period)) < rng.uniform(0.7, 3)
        field = (_noise(shape, 3, 3, rng) * 0.3 - 2.0 * joints).astype(np.float32)
    field = (field - field.mean()) / max(float(field.std()), 1e-6)
    first, second = _colour(rng), _colour(rng)
    second = first + (second - first) * rng.uniform(0.1, 0.8)
    mix = np.clip(0.5 + 0.3 * field, 0, 1)[..., None]
    return np.clip(first * mix + second * (1 - mix), 0, 255).astype(np.uint8)


def _noise(shape: tuple[int, int], sigma_x: float, sigma_y: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of unit variance, made coarse and enlarged where it is smooth."""
    step = max(1, int(min(sigma_x, sigma_y) / 2))
    coarse = rng.standard_normal((shape[0] // step + 2, shape[1] // step + 2)).astype(np.float32)
    smooth = cv2.GaussianBlur(coarse, (0, 0), max(0.4, sigma_x / step), sigmaY=max(0.4, sigma_y / step))
    fine = np.asarray(cv2.resize(smooth, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    return fine / max(float(fine.std()), 1e-6)
