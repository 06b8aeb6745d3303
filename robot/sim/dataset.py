"""Labelled RGB-D pictures for training and evaluation, rendered without the arm.

    python -m affordagent.robot.sim.dataset --out DIR --split train --images 6000 --seed 1 --workers 2

One shard = one compiled model = IMAGES_PER_SHARD pictures. A shard is done when its `shard_XXXX.jsonl` is there, which
is written last and atomically; a restart skips finished shards, and since every shard draws from (seed, split, shard)
the result does not depend on interruptions, workers or the number of images asked for.

Layout: DIR/images/<id>_color.jpg, <id>_depth.png (uint16, 0.1 mm, 0 = none), <id>_labels.png (uint8: slot * 8 + part
index, both from 1; 0 background; 255 clutter), DIR/shard_XXXX.jsonl (a row per picture), DIR/meta.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array
from affordagent.robot.sim.dataset_scene import CLUTTER_LABEL, HEIGHT, WIDTH, Item, Pool, View, make_item, plane_camera
from affordagent.robot.sim.render import Renderer
from affordagent.robot.sim.scene import TEST_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS, pinhole

Split = Literal["train", "val", "test", "novel"]
SPLITS: tuple[Split, ...] = get_args(Split)
INSTANCE_SEEDS = {"train": TRAINING_SEEDS, "val": VALIDATION_SEEDS, "test": TEST_SEEDS, "novel": TEST_SEEDS}
IMAGES_PER_SHARD = 20
OBJECTS_PER_SHARD = 13
TWIN_SLOTS = 2  # of which this many repeat a category of the shard
NOVEL_SLOTS = 5  # of the others, this many are never trained on, in the split "novel"
OBJECTS_SHOWN = (3, 7)
DEPTH_UNIT_M = 1e-4
JPEG_QUALITY = 92
FORMAT = 1


def shard_categories(split: Split, seed: int, shard: int) -> list[str]:
    """The categories of a shard's objects: dealt from shuffled decks, so that none falls behind.

    "train" and "val" take every third fresh object from those kept for training only; "test" has the categories of the
    cell alone; "novel" has some never trained and some of the cell's to tell them from. The twins come last.
    """
    from affordagent.robot.sim.objects import library

    fresh = OBJECTS_PER_SHARD - TWIN_SLOTS
    others = {"train": library.EXTRA, "val": library.EXTRA, "novel": library.HELD_OUT}.get(split, {})
    many = {"test": 0, "novel": min(NOVEL_SLOTS, fresh)}.get(split, fresh // 3)
    names = _deal(sorted(others), many, shard, [seed, SPLITS.index(split)], 2) if many else []
    names += _deal(sorted(library.CATEGORIES), fresh - many, shard, [seed, SPLITS.index(split)], 0)
    rng = np.random.default_rng([seed, SPLITS.index(split), shard, 1])
    return names + [str(c) for c in rng.choice(names[:many] if split == "novel" else names, TWIN_SLOTS)]


def _deal(names: list[str], hand: int, shard: int, seed: list[int], salt: int) -> list[str]:
    """The `hand` cards of a shard, from shuffled decks of all names laid end to end."""
    cards = []
    for position in range(shard * hand, (shard + 1) * hand):
        deck = np.random.default_rng([*seed, position // len(names), salt])
        cards.append(names[int(deck.permutation(len(names))[position % len(names)])])
    return cards


def make_items(split: Split, seed: int, shard: int, rng: np.random.Generator) -> list[Item]:
    from affordagent.robot.sim.objects import library

    seeds = INSTANCE_SEEDS[split]
    items = []
    for slot, category in enumerate(shard_categories(split, seed, shard), start=1):
        instance = int(rng.integers(seeds.start, seeds.stop))
        items.append(make_item(slot, instance, library.make(category, instance)))
    return items


def write_shard(out: Path, split: Split, seed: int, shard: int) -> None:
    """Render one shard: pictures first, then its rows, atomically."""
    rng = np.random.default_rng([seed, SPLITS.index(split), shard])
    pool = Pool(make_items(split, seed, shard, rng), rng)
    shown: Counter[int] = Counter()
    rows = []
    with Renderer(pool.model, WIDTH, HEIGHT) as renderer:
        for k in range(IMAGES_PER_SHARD):
            shuffled = [pool.items[int(i)] for i in rng.permutation(len(pool.items))]
            order = sorted(shuffled, key=lambda item: shown[item.slot])  # those shown least come first
            view = pool.randomise(rng, order, int(rng.integers(OBJECTS_SHOWN[0], OBJECTS_SHOWN[1] + 1)))
            shown.update(view.poses.keys())
            color = renderer.color(pool.data, shadows=view.shadows)
            depth_m, geoms = renderer.geometry(pool.data)
            name = f"{split}_{seed:03d}_{shard * IMAGES_PER_SHARD + k:06d}"
            labels = pool.labels[geoms]
            save_pictures(out / "images", name, color, depth_m, labels)
            rows.append({"id": name, "split": split, "seed": seed, **describe(pool, view, labels)})
    path = out / f"shard_{shard:04d}.jsonl"
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(draft, path)


def save_pictures(folder: Path, name: str, color: np.ndarray, depth_m: np.ndarray, labels: np.ndarray) -> None:
    """Raises AffordAgentError when a picture cannot be written."""
    depth = np.round(depth_m / DEPTH_UNIT_M).astype(np.uint16)
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    for suffix, picture, options in (
        ("color.jpg", color[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]),
        ("depth.png", depth, fast),
        ("labels.png", labels, fast),
    ):
        path = folder / f"{name}_{suffix}"
        if not cv2.imwrite(str(path), np.ascontiguousarray(picture), options):
            raise AffordAgentError(f"cannot write {path}: is the disk full or the folder gone?")


def describe(pool: Pool, view: View, labels: np.ndarray) -> dict[str, Any]:
    """The row of a picture: camera, table and the objects that are seen."""
    camera = pinhole(WIDTH, HEIGHT, view.fovy_deg)
    fields = ("width", "height", "fx", "fy", "cx", "cy")
    clutter = labels == CLUTTER_LABEL
    slots = np.where(clutter, 0, labels // 8)
    objects = [
        _describe_object(item, view.poses[item.slot], labels, slots) for item in pool.items if item.slot in view.poses
    ]
    return {
        "camera": {f: getattr(camera, f) for f in fields},
        "T_base_camera": np.round(view.T_base_camera, 9).tolist(),
        "plane_camera": np.round(plane_camera(view.T_base_camera), 9).tolist(),
        "objects": [o for o in objects if o["visible_px"] > 0],
    }


def _describe_object(item: Item, T_base_object: Array, labels: np.ndarray, slots: np.ndarray) -> dict[str, Any]:
    mask = slots == item.slot
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1] if len(xs) else [0, 0, 0, 0]
    return {
        "slot": item.slot,
        "category": item.category,
        "instance": item.instance,
        "colour": item.obj.colour,
        "part": item.obj.part,
        "parts": item.obj.parts,
        "part_index": item.obj.parts.index(item.obj.part) + 1,
        "visible_px": int(mask.sum()),
        "part_px": int((labels == item.label(item.obj.part)).sum()),
        "box": box,
        "T_base_object": np.round(T_base_object, 9).tolist(),
    }


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of all finished shards, in order."""
    return [json.loads(line) for path in sorted(folder.glob("shard_*.jsonl")) for line in path.open()]


def write_meta(out: Path, split: Split, seed: int) -> None:
    rows = read_rows(out)
    images: Counter[str] = Counter()
    for row in rows:
        images.update({o["category"] for o in row["objects"]})
    meta = {
        "format": FORMAT,
        "split": split,
        "seed": seed,
        "images": len(rows),
        "images_with_category": dict(sorted(images.items())),
        "images_per_shard": IMAGES_PER_SHARD,
        "objects_per_shard": OBJECTS_PER_SHARD,
        "instance_seeds": [INSTANCE_SEEDS[split].start, INSTANCE_SEEDS[split].stop],
        "depth_unit_m": DEPTH_UNIT_M,
        "clutter_label": CLUTTER_LABEL,
        "versions": {name: version(name) for name in ("mujoco", "numpy", "trimesh", "opencv-python-headless")},
    }
    draft = out / "meta.tmp"
    draft.write_text(json.dumps(meta, indent=1))
    os.replace(draft, out / "meta.json")


def _check_folder(out: Path, split: Split, seed: int) -> None:
    path = out / "meta.json"
    if not path.exists():
        return
    old = json.loads(path.read_text())
    if (old["split"], old["seed"], old["format"]) != (split, seed, FORMAT):
        raise AffordAgentError(
            f"{out} holds split {old['split']}, seed {old['seed']}, format {old['format']}, "
            f"not {split}, {seed}, {FORMAT}: choose another folder"
        )


def _work(job: tuple[Path, Split, int, int]) -> int:
    write_shard(*job)
    return job[3]


def generate(out: Path, split: Split, images: int, seed: int, workers: int = 1) -> None:
    """Fill `out` with at least `images` pictures (whole shards); finished shards are kept.

    Raises:
        AffordAgentError: the folder holds another data set, or a worker died.
    """
    _check_folder(out, split, seed)
    (out / "images").mkdir(parents=True, exist_ok=True)
    write_meta(out, split, seed)
    total = -(-images // IMAGES_PER_SHARD)
    todo = [k for k in range(total) if not (out / f"shard_{k:04d}.jsonl").exists()]
    jobs = [(out, split, seed, k) for k in todo]
    print(f"{split}: {total - len(todo)} of {total} shards are there", file=sys.stderr)
    start = time.monotonic()
    with ExitStack() as stack:
        work: Callable[..., Iterable[int]] = map
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            work = stack.enter_context(ProcessPoolExecutor(workers, context)).map
        try:
            for done, _ in enumerate(work(_work, jobs), start=1):
                rate = done * IMAGES_PER_SHARD / (time.monotonic() - start)
                print(f"{split}: {done}/{len(todo)} shards, {rate:.1f} images/s", file=sys.stderr, flush=True)
                if done % 10 == 0:
                    write_meta(out, split, seed)
        except BrokenProcessPool as error:
            raise AffordAgentError(
                "a worker died, perhaps for want of memory: run the same command again, with fewer --workers; "
                "finished shards are kept"
            ) from error
    write_meta(out, split, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description="Render labelled RGB-D pictures of tables with objects.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    os.environ.setdefault("LP_NUM_THREADS", "1")  # the software renderer's threads: one per worker
    generate(args.out, args.split, args.images, args.seed, args.workers)


if __name__ == "__main__":
    main()
