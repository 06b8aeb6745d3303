"""What comes of proposed grasps: outcomes in the fast simulator (`robot.sim.hand`), to learn a scorer from.

    python -m affordagent.evaluations.grasp_outcomes generate --out DIR --scene mixed --seeds 0:80
    python -m affordagent.evaluations.grasp_outcomes features --data DIR --out features.npz

A scene is drawn, let fall, and seen with a noisy depth camera. For each thing the true mask of its part is lifted, and
of the grasps that `propose` considers the best few and others of every rank are tried, each under conditions of its own
(friction, mass, errors of the hand), so that a robust grasp succeeds more often than a lucky one. A scene is one
`NAME-SEED.npz`; scenes that are there are left out, so a run that was stopped goes on. Shards hold the clouds, so that
the features can be computed anew when the proposals or the features change.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from affordagent.core.errors import StageFailure
from affordagent.core.types import PartCloud, PartMask, Verdict
from affordagent.robot.sim.hand import Conditions, HandScene
from affordagent.robot.sim.scene import sample_scene
from affordagent.robot.sim.sensor import SensorNoise
from affordagent.robot.sim.view import SceneView
from affordagent.tools.depth_projection import lift
from affordagent.tools.grasping import ranking, scorer
from affordagent.tools.grasping.antipodal import Candidates
from affordagent.tools.grasping.propose import completed, consider, view_of
from affordagent.tools.table import find_objects

BEST, OTHERS = 4, 10  # grasps tried of each thing: the best ranked, and of the rest
MOST_CONSIDERED = 200
CLOUD = ("part", "part_normals", "object", "obstacles", "camera_position")
BY_HAND = [term for term in ranking.TERMS if term[0].__name__ != "learned"]
MEASURED = ("slip_m", "rotation_rad", "lift_m", "part_share", "others_moved_m", "table_force_n")


@dataclass(frozen=True)
class Target:
    """A thing to grasp. part: None = any part. cloud: as the camera saw it. why_not: the failure when it was not seen
    well enough to try."""

    name: str
    category: str
    part: str | None
    cloud: PartCloud | None
    why_not: str = ""


@contextmanager
def seen_scene(name: str, seed: int) -> Iterator[tuple[HandScene, list[Target]]]:
    """A scene at rest and its things as a noisy camera shows them, cut out by the true masks."""
    scene = sample_scene(name, seed)
    hand = HandScene(scene)
    with SceneView(scene, hand.model) as view:
        view.remember(hand.qpos)
        frame = view.look(f"{name}-{seed}", SensorNoise(), np.random.default_rng(seed))
        truth = view.truth()
    table = find_objects(frame)
    targets = []
    for thing in truth:
        part = None if thing.part == "body" else thing.part
        try:
            cloud = lift(frame, table, PartMask(thing.part_mask, thing.mask, 1.0, "truth"))
            targets.append(Target(thing.name, thing.category, part, cloud))
        except StageFailure as failure:
            targets.append(Target(thing.name, thing.category, part, None, failure.code))
    yield hand, targets


def spread_choice(ranked: int, rng: np.random.Generator, best: int = BEST, others: int = OTHERS) -> list[int]:
    """Ranks to try out of `ranked`, rising: the best, and one of each of `others` equal stretches of the rest."""
    rest = np.arange(min(best, ranked), ranked)
    stretches = np.array_split(rest, others)
    return [*range(min(best, ranked)), *(int(rng.choice(s)) for s in stretches if len(s))]


def try_view(
    hand: HandScene, target: Target, view: ranking.View, chosen: list[int], rng: np.random.Generator
) -> tuple[list[Conditions], list[Verdict]]:
    """Each chosen grasp once, under conditions of its own."""
    grasps = view.grasps
    opening_m = view.gripper.opening_for_m(grasps.width_m)
    conditions = [Conditions.draw(rng) for _ in chosen]
    verdicts = [
        hand.try_grasp(target.name, target.part, grasps.T_base_tcp[i], float(opening_m[i]), c)
        for i, c in zip(chosen, conditions, strict=True)
    ]
    return conditions, verdicts


def outcomes(name: str, seed: int) -> dict[str, NDArray[Any]]:
    """The arrays of a shard: rows of grasps (G, ...), `object` their thing's index in `targets`, a JSON list."""
    rows: list[dict[str, Any]] = []
    clouds: dict[str, NDArray[Any]] = {}
    things: list[dict[str, Any]] = []
    with seen_scene(name, seed) as (hand, targets):
        for index, target in enumerate(targets):
            things.append({"name": target.name, "category": target.category, "part": target.part})
            if target.cloud is None:
                things[-1]["why_not"] = target.why_not
                continue
            try:
                view = consider(target.cloud, seed)
            except StageFailure as failure:
                things[-1]["why_not"] = failure.code
                continue
            clouds |= {f"{index}/{k}": getattr(target.cloud, k).astype(np.float32) for k in CLOUD}
            clouds[f"{index}/numbers"] = np.array([target.cloud.table_z_m, target.cloud.valid_fraction])
            rng = np.random.default_rng([seed, index])
            rows += _rows(index, hand, target, view, rng)
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]} if rows else {}
    return {**columns, **clouds, "targets": np.array(json.dumps(things)), "scene": np.array(f"{name}-{seed}")}


def _rows(
    index: int, hand: HandScene, target: Target, view: ranking.View, rng: np.random.Generator
) -> list[dict[str, Any]]:
    scores, _ = ranking.score(view, BY_HAND)
    ranked = ranking.diverse(view.grasps.T_base_tcp, scores, MOST_CONSIDERED)
    ranks = spread_choice(len(ranked), rng)
    chosen = [ranked[rank] for rank in ranks]
    conditions, verdicts = try_view(hand, target, view, chosen, rng)
    return [
        {
            "object": index,
            "rank": rank,
            "score": scores[i],
            "clearance_m": view.clearance_m[i],
            **{k: values[i] for k, values in vars(view.grasps).items()},
            **vars(c),
            "success": verdict.success,
            "code": verdict.code or "",
            **{k: verdict.measured.get(k, np.nan) for k in MEASURED},
        }
        for rank, i, c, verdict in zip(ranks, chosen, conditions, verdicts, strict=True)
    ]


def generate(out: Path, name: str, seeds: range) -> None:
    """Write the shards that are not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    for seed in track(seeds, description=f"{name} scenes"):
        path = out / f"{name}-{seed}.npz"
        if not path.is_file():
            _save(path, outcomes(name, seed))


def _save(path: Path, arrays: dict[str, Any]) -> None:
    """All or nothing."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, path)


def read_shard(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, NDArray[Any]], ranking.View]]:
    """Each thing of a shard that was tried: its entry of `targets`, its rows (columns by name), and the view of its
    grasps as the proposals would have it now."""
    with np.load(path) as file:
        shard = dict(file)
    for index, thing in enumerate(json.loads(str(shard["targets"]))):
        if f"{index}/numbers" not in shard:
            continue
        fields = {k: shard[f"{index}/{k}"].astype(float) for k in CLOUD}
        table_z_m, valid_fraction = map(float, shard[f"{index}/numbers"])
        cloud = PartCloud(**fields, table_z_m=table_z_m, valid_fraction=valid_fraction)
        mine = shard["object"] == index
        rows = {key: values[mine] for key, values in shard.items() if values.shape[:1] == mine.shape}
        grasps = Candidates(**{field.name: rows[field.name] for field in dataclass_fields(Candidates)})
        yield thing, rows, view_of(grasps, rows["clearance_m"], cloud, completed(cloud))


def tabulate(data: Path, out: Path) -> None:
    """One table of all shards, for `finetune.grasp_scorer`: features (N, F) with `names`, terms (N, T), `term_names`,
    and for each row score, success, code, rank, category, scene and group (equal for equal things)."""
    columns: dict[str, list[Any]] = {}
    for path in track(sorted(data.glob("*.npz")), description="features"):
        for thing, rows, view in read_shard(path):
            count, features = len(view.grasps), scorer.features(view)
            score, terms = ranking.score(view, BY_HAND)
            table = {
                "features": np.stack(list(features.values()), 1).astype(np.float32),
                "terms": np.stack(list(terms.values()), 1).astype(np.float32),
                "score": score,
                **{key: rows[key] for key in ("success", "code", "rank")},
                "category": np.repeat(thing["category"], count),
                "scene": np.repeat(path.stem, count),
                "group": np.repeat(f"{path.stem}/{thing['name']}", count),
            }
            for key, values in table.items():
                columns.setdefault(key, []).append(values)
            names = {"names": list(features), "term_names": list(terms)}
    _save(out, {key: np.concatenate(parts) for key, parts in columns.items()} | names)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("generate", help="try grasps, one shard a scene")
    making.add_argument("--out", type=Path, required=True)
    making.add_argument("--scene", default="mixed")
    making.add_argument("--seeds", type=seeds_of, required=True, help="FIRST:END, below 1000: development scenes")
    making.set_defaults(run=lambda a: generate(a.out, a.scene, a.seeds))
    features = commands.add_parser("features", help="a table of all shards, for training")
    features.add_argument("--data", type=Path, required=True)
    features.add_argument("--out", type=Path, required=True, help=".npz")
    features.set_defaults(run=lambda a: tabulate(a.data, a.out))
    given = parser.parse_args(argv)
    given.run(given)


def seeds_of(text: str) -> range:
    """FIRST:END of a command line."""
    first, end = text.split(":")
    return range(int(first), int(end))


if __name__ == "__main__":
    main()
