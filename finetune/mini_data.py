"""Crops for training the small AffordanceVLM, cut from rendered scenes round proposals as depth clusters give them.

Reads folders of `shard_*.jsonl` rows and their pictures (the format of robot/sim/dataset.py), also while they are still
being written. A crop depends only on the seed, the step and the rows known, so a resumed run sees the same crops.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.types import box_of
from affordagent.finetune.crops import CropWindow, crop_geometry
from affordagent.finetune.mini_texts import PART_QUERY, Text, TextPool

CLUTTER = 255
DEPTH_UNIT_M = 1e-4
MIN_VISIBLE_PX = 200
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One labelled picture: its record and where its files are."""

    record: dict[str, Any]
    folder: Path

    def path(self, suffix: str) -> Path:
        return self.folder / "images" / f"{self.record['id']}_{suffix}"

    @property
    def camera(self) -> CameraIntrinsics:
        return CameraIntrinsics(**self.record["camera"])

    @property
    def plane_camera(self) -> NDArray[np.float64]:
        return np.asarray(self.record["plane_camera"], np.float64)

    def color(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB."""
        return np.ascontiguousarray(_read(self.path("color.jpg"), cv2.IMREAD_COLOR)[..., ::-1])

    def depth_m(self) -> NDArray[np.float32]:
        """(H, W) without noise, 0 = none."""
        return _read(self.path("depth.png"), cv2.IMREAD_UNCHANGED).astype(np.float32) * np.float32(DEPTH_UNIT_M)

    def labels(self) -> NDArray[np.uint8]:
        """(H, W): slot * 8 + part (from 1), 0 background, 255 clutter."""
        return _read(self.path("labels.png"), cv2.IMREAD_UNCHANGED)

    def visible(self) -> list[dict[str, Any]]:
        return [o for o in self.record["objects"] if o["visible_px"] >= MIN_VISIBLE_PX]


def _read(path: Path, flag: int) -> NDArray[Any]:
    image = cv2.imread(str(path), flag)
    if image is None:
        raise FileNotFoundError(f"{path} is missing or is not a picture; render the set again")
    return image


def list_rows(folder: Path) -> list[Row]:
    """All complete rows of the shards in `folder`, in order; a last line still being written is left out."""
    rows = []
    for shard in sorted(folder.glob("shard_*.jsonl")):
        lines = shard.read_text(encoding="utf-8").splitlines(keepends=True)
        rows += [Row(json.loads(line), folder) for line in lines if line.endswith("\n")]
    return [row for row in rows if row.visible()]


def object_mask(labels: NDArray[np.uint8], slot: int) -> Bool:
    return (labels > 0) & (labels // 8 == slot) & (labels != CLUTTER)


def part_mask(labels: NDArray[np.uint8], thing: dict[str, Any]) -> Bool:
    return labels == thing["slot"] * 8 + thing["part_index"]


def degrade(mask: Bool, others: Bool, height_m: NDArray[np.float32], rng: np.random.Generator) -> Bool:
    """A mask as depth clustering gives it: low parts lost, edges moved, holes, a neighbour merged in, a piece lost."""
    out = mask
    if rng.random() < 0.5:
        out = _unless_small(out & (height_m > rng.uniform(0.003, 0.011)), out)
    if rng.random() < 0.3:
        near = cv2.dilate(out.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
        count, pieces = cv2.connectedComponents(others.astype(np.uint8))
        touching = np.unique(pieces[near & others])
        if count > 1 and len(touching):
            out = out | (pieces == rng.choice(touching))
    if rng.random() < 0.5:
        kernel = np.ones((int(rng.integers(2, 6)),) * 2, np.uint8)
        change = cv2.erode if rng.random() < 0.5 else cv2.dilate
        out = _unless_small(change(out.astype(np.uint8), kernel) > 0, out)
    if rng.random() < 0.3:
        holes = np.zeros(out.shape, np.uint8)
        y, x = np.nonzero(out)
        for _ in range(int(rng.integers(1, 4))):
            i = int(rng.integers(len(x)))
            axes = (int(rng.integers(2, 16)), int(rng.integers(2, 16)))
            cv2.ellipse(holes, (int(x[i]), int(y[i])), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        out = _unless_small(out & (holes == 0), out)
    if rng.random() < 0.08:
        y, x = np.mgrid[: out.shape[0], : out.shape[1]]
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * x + np.sin(angle) * y
        out = _unless_small(out & (along > np.quantile(along[out], rng.uniform(0.1, 0.45))), out)
    return out


def _unless_small(changed: Bool, before: Bool) -> Bool:
    return changed if changed.sum() >= max(60, 0.25 * before.sum()) else before


def noisy_depth(depth_m: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Stereo-like: smooth error that grows with z squared, holes at depth edges and in random spots."""
    z = depth_m.copy()
    field = np.asarray(cv2.GaussianBlur(rng.standard_normal(z.shape, np.float32), (0, 0), float(rng.uniform(0.6, 2.5))))
    z = z + (field / max(float(field.std()), 1e-6) * rng.uniform(0.0005, 0.003) * z * z).astype(np.float32)
    if rng.random() < 0.6:
        step = cv2.morphologyEx(depth_m, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        z[(step > 0.02) & (rng.random(z.shape) < rng.uniform(0.3, 1.0))] = 0
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 5))):
            centre = (int(rng.integers(z.shape[1])), int(rng.integers(z.shape[0])))
            axes = (int(rng.integers(1, 14)), int(rng.integers(1, 14)))
            cv2.ellipse(z, centre, axes, float(rng.uniform(0, 180)), 0, 360, 0.0, -1)
    z[depth_m <= 0] = 0
    return np.maximum(z, 0)


def photometric(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast, saturation, white balance, gamma, blur, noise and JPEG, each some of the time."""
    x = image.astype(np.float32)
    if rng.random() < 0.8:
        x = x * np.float32(rng.uniform(0.65, 1.35)) + np.float32(rng.uniform(-25, 25))
    if rng.random() < 0.6:
        mean = x.mean()
        x = (x - mean) * np.float32(rng.uniform(0.6, 1.3)) + mean
    if rng.random() < 0.6:
        grey = x.mean(2, keepdims=True)
        x = grey + (x - grey) * np.float32(rng.uniform(0.6, 1.3))
    if rng.random() < 0.5:
        x = x * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    x = np.clip(x, 0, 255)
    if rng.random() < 0.3:
        x = (255 * (x / 255) ** rng.uniform(0.7, 1.5)).astype(np.float32)
    if rng.random() < 0.35:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.4, 1.3))), np.float32)
    if rng.random() < 0.4:
        x = x + rng.standard_normal(x.shape, np.float32) * np.float32(rng.uniform(2, 12))
    out = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        jpeg = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 85))])[1]
        out = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
    return out


@dataclass(frozen=True)
class Crop:
    """image (3, n, n) uint8; geometry (5, n/2, n/2); target (2, n/4, n/4) shares of part and object, None for clutter;
    text: means the object (or asks for the part alone); wrong: a text that means none of `shows`; shows: (category,
    colour) of the things the proposal holds; weight: of its mask loss."""

    image: NDArray[np.uint8]
    geometry: NDArray[np.float32]
    target: NDArray[np.float32] | None
    text: str
    wrong: str
    shows: tuple[tuple[str, str], ...]
    weight: float


class CropSampler:
    """Draws crops from rows; see the module."""

    def __init__(self, texts: TextPool, geometry_dropout: float = 0.25, clutter: float = 0.06) -> None:
        self.texts, self.geometry_dropout, self.clutter = texts, geometry_dropout, clutter

    def crops(self, row: Row, count: int, size: int, rng: np.random.Generator) -> list[Crop]:
        """`count` crops of different things of one picture (fewer if there are fewer), thin parts more often."""
        things = row.visible()
        thin = np.array([t["part_px"] < 0.35 * t["visible_px"] for t in things])
        weight = np.where(thin, 1.8, 1.0)
        picked = rng.choice(len(things), min(count, len(things)), replace=False, p=weight / weight.sum())
        color, labels, depth_m = row.color(), row.labels(), row.depth_m()
        crops = []
        for index in picked:
            thing: dict[str, Any] | None = things[index]
            if rng.random() < self.clutter and (labels == CLUTTER).sum() > 300:
                thing = None
            crops.append(self._crop(row, thing, color, labels, depth_m, size, rng))
        return crops

    def _crop(
        self,
        row: Row,
        thing: dict[str, Any] | None,
        color: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        depth_m: NDArray[np.float32],
        size: int,
        rng: np.random.Generator,
    ) -> Crop:
        true = _largest_piece(labels == CLUTTER) if thing is None else object_mask(labels, thing["slot"])
        u0, v0, u1, v1 = _grown(box_of(true), 0.8, true.shape)
        near = (slice(v0, v1), slice(u0, u1))
        labels, depth_m, true = labels[near], depth_m[near], true[near]
        height_m = _height(depth_m, row, (u0, v0))
        proposal = degrade(true, (labels > 0) & ~true, height_m, rng)
        window = self._window(proposal, thing, labels, rng).moved(u0, v0)
        geometry = np.zeros((5, size // 2, size // 2), np.float32)
        if rng.random() >= self.geometry_dropout:
            noisy = noisy_depth(depth_m, rng)
            geometry = crop_geometry(window, size // 2, proposal, noisy, row.camera, row.plane_camera, (u0, v0))
        image = photometric(window.cut(color, size).astype(np.uint8), rng)
        local = window.moved(-u0, -v0)
        target, part_share = None, 1.0
        if thing is not None:
            masks = (part_mask(labels, thing), true)
            target = np.stack([_shares(local, m, size) for m in masks])
            part_share = float(masks[0].sum() / max(true.sum(), 1))
        if rng.random() < 0.5:
            image, geometry = image[:, ::-1], geometry[..., ::-1]
            target = None if target is None else target[..., ::-1]
        shows = _shown(proposal, labels, row)
        text = self._text(rng, thing)
        return Crop(
            np.ascontiguousarray(image.transpose(2, 0, 1)),
            np.ascontiguousarray(geometry),
            None if target is None else np.ascontiguousarray(target),
            text,
            self._wrong(rng, row, shows).words,
            shows,
            1.5 if part_share < 0.35 else 1.0,
        )

    def _window(
        self, proposal: Bool, thing: dict[str, Any] | None, labels: NDArray[np.uint8], rng: np.random.Generator
    ) -> CropWindow:
        box = box_of(proposal)
        shift = (float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05)))
        part = np.zeros(1, bool) if thing is None else part_mask(labels, thing)
        if rng.random() < 0.2 and part.sum() > 60:  # a closer look at the part
            return CropWindow.around(box_of(part), float(rng.uniform(1.4, 2.4)), shift)
        return CropWindow.around(box, float(rng.uniform(1.1, 2.0)), shift)

    def _text(self, rng: np.random.Generator, thing: dict[str, Any] | None) -> str:
        if thing is None or rng.random() < 0.15:
            return PART_QUERY
        return self.texts.draw(rng, thing["category"], thing["colour"], thing["part"]).words

    def _wrong(self, rng: np.random.Generator, row: Row, shows: tuple[tuple[str, str], ...]) -> Text:
        """A text for something else: half of the time for another thing of the picture."""
        others = [(t["category"], t["colour"]) for t in row.visible() if (t["category"], t["colour"]) not in shows]
        for _ in range(20):
            if others and rng.random() < 0.5:
                category, colour = others[int(rng.integers(len(others)))]
            else:
                category, colour = str(rng.choice(self.texts.categories)), "red"
            text = self.texts.draw(rng, category, colour, None)
            if not any(text.means(*shown) for shown in shows):
                return text
        return Text("the thing that is not here", frozenset(), None)


def _largest_piece(mask: Bool) -> Bool:
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())


def _grown(box: tuple[int, int, int, int], share: float, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    margin = int(share * max(box[2] - box[0], box[3] - box[1])) + 16
    return (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(shape[1], box[2] + margin),
        min(shape[0], box[3] + margin),
    )


def _height(depth_m: NDArray[np.float32], row: Row, origin: tuple[int, int]) -> NDArray[np.float32]:
    camera, (nx, ny, nz, d) = row.camera, row.plane_camera
    u = (origin[0] + np.arange(depth_m.shape[1]) - camera.cx) / camera.fx
    v = (origin[1] + np.arange(depth_m.shape[0]) - camera.cy) / camera.fy
    return (depth_m * (nx * u[None] + ny * v[:, None] + nz) + d).astype(np.float32)


def _shares(window: CropWindow, mask: Bool, size: int) -> NDArray[np.float32]:
    fine = window.cut(mask.astype(np.float32), size, outside=0.0).astype(np.float32)
    return np.asarray(cv2.resize(fine, (size // 4, size // 4), interpolation=cv2.INTER_AREA), np.float32)


def _shown(proposal: Bool, labels: NDArray[np.uint8], row: Row) -> tuple[tuple[str, str], ...]:
    """Things that make up at least 30 % of the proposal."""
    slots = np.bincount((labels[proposal & (labels > 0) & (labels != CLUTTER)] // 8).astype(int), minlength=32)
    enough = 0.3 * proposal.sum()
    return tuple((t["category"], t["colour"]) for t in row.record["objects"] if slots[t["slot"]] >= enough)


def batch_rng(seed: int, step: int) -> np.random.Generator:
    return np.random.default_rng([seed, step])


def sample_batch(sampler: CropSampler, rows: list[Row], crops: int, size: int, seed: int, step: int) -> list[Crop]:
    """`crops` crops, two a picture, the same for the same seed, step and rows."""
    rng = batch_rng(seed, step)
    batch: list[Crop] = []
    while len(batch) < crops:
        row = rows[int(rng.integers(len(rows)))]
        batch += sampler.crops(row, min(2, crops - len(batch)), size, rng)
    return batch
