"""Are proposed grasps valid? Judged on the true meshes of the simulated cell, of which the proposer saw one view.

    python -m affordagent.evaluations.grasp_truth --scenes mixed novel --seeds 0-9 --out runs/grasp_truth

Every thing of every scene is the target once: ground-truth masks of the part to hold and of its object, `lift` and
`propose`. A grasp is valid when

1. the open hand's boxes (`tools.grasping.gripper`), as they stand before closing, hold no point of any true surface and
   do not reach below the table;
2. closing the pads meets the right part on both sides, and the two contacts are antipodal for a friction of 0.5: rays
   along the closing axis start on a grid over each pad. Those that hit within 1.5 mm of the pad's first contact touch
   (the pads are rubber). The mean normal of either patch lies within the friction cone about the closing axis, and so
   does, in both cones, a line from a point between the contacts of one pad to one between those of the other: a pad's
   force acts anywhere amid what it touches (Nguyen, "Constructing force-closure grasps", 1988, for single points).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.geometry import Array, transform_points
from affordagent.evaluations.statistics import rate
from affordagent.evaluations.trials import Row, run_trials
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85, ParallelGripper

if TYPE_CHECKING:
    from affordagent.core.types import Grasp, GraspSet, PartCloud, RgbdFrame, TableScene
    from affordagent.robot.sim.cell import SimCell
    from affordagent.robot.sim.view import TrueObject
    from affordagent.tools.grasping.backends import Backend

FRICTION = 0.5
TOUCH_M = 0.0015  # what lies this little behind the first contact is touched too
GRID_M = 0.0018  # of the rays over a pad
MIN_RAYS = 3  # fewer contacts on a pad are an edge that is grazed
SAMPLE_M = 0.0012  # spacing of the surface points that are held against the hand
EDGE = 1e-9  # of a triangle's sides: a ray that meets the edge of two must not pass between them
SKIN_M = 0.001  # the boxes are hulls: so much of them may be touched
PADS_M = 0.08  # no pad reaches farther from the tcp
TOPS = (1, 5, 20)

Reason = Literal[
    "valid", "hits table", "hits own object", "hits neighbour", "no contact", "wrong part", "slips", "does not oppose"
]


class TrueSurfaces:
    """The true surfaces of a scene.

    things: name -> list of (part, vertices (V, 3) in the base frame, faces (F, 3)).
    """

    def __init__(self, things: dict[str, list[tuple[str, Array, NDArray[np.int_]]]], table_z_m: float = 0.0) -> None:
        import trimesh

        self.table_z_m = table_z_m
        self._things = list(things)
        self._labels: list[tuple[str, str]] = []
        corners, labels, points, owners = [], [], [], []
        for i, (name, parts) in enumerate(things.items()):
            for part, vertices, faces in parts:
                mesh = trimesh.Trimesh(vertices, faces, process=False)
                count = int(mesh.area / SAMPLE_M**2) + 1
                samples = np.concatenate([trimesh.sample.sample_surface(mesh, count, seed=0)[0], vertices])
                points.append(samples)
                owners.append(np.full(len(samples), i))
                corners.append(vertices[faces])
                labels.append(np.full(len(faces), len(self._labels)))
                self._labels.append((name, part))
        self._corners, self._label = np.concatenate(corners), np.concatenate(labels)  # (F, 3, 3), (F,)
        self._middle = self._corners.mean(1)
        self._radius = np.linalg.norm(self._corners - self._middle[:, None], axis=2).max(1, keepdims=True)
        self._points, self._owner = np.concatenate(points), np.concatenate(owners)

    def judge(self, grasp: Grasp, name: str, part: str, gripper: ParallelGripper = ROBOTIQ_2F85) -> Reason:
        """Is the grasp of the `part` of the thing `name` valid, or what is wrong with it?"""
        opening_m = float(gripper.opening_for_m(grasp.width_m))
        collision = self._collision(grasp.T_base_tcp, opening_m, name, gripper)
        if collision is not None:
            return collision
        sides = [self._contacts(grasp, sign, opening_m, gripper) for sign in (-1.0, 1.0)]
        if min(len(points) for points, _, _ in sides) < MIN_RAYS:
            return "no contact"
        for _, _, labels in sides:
            if np.mean([self._labels[i] == (name, part) for i in labels]) < 0.5:
                return "wrong part"
        cone = np.cos(np.arctan(FRICTION))
        normals = [_unit(n.mean(0)) for _, n, _ in sides]
        if -normals[0][1] < cone or normals[1][1] < cone:
            return "slips"
        low, high = (_pressure_centres(points) for points, _, _ in sides)
        lines = _unit(high[None] - low[:, None]).reshape(-1, 3)
        return "valid" if ((lines @ -normals[0] >= cone) & (lines @ normals[1] >= cone)).any() else "does not oppose"

    def _collision(self, T_base_tcp: Array, opening_m: float, name: str, gripper: ParallelGripper) -> Reason | None:
        boxes = gripper.boxes(np.array([opening_m]))[0]
        half_x, y_in, y_out, low, high = boxes.T
        R, origin = T_base_tcp[:3, :3], T_base_tcp[:3, 3]
        lowest = origin[2] - abs(R[2, 0]) * half_x - abs(R[2, 1]) * y_out + np.minimum(R[2, 2] * low, R[2, 2] * high)
        if (lowest < self.table_z_m).any():
            return "hits table"
        x, y, z = ((self._points - origin) @ R).T
        x, y = np.abs(x), np.abs(y)
        near = np.flatnonzero((x < half_x.max()) & (y < y_out.max()) & (z > low.min()) & (z < high.max()))
        x, y, z = (v[near, None] for v in (x, y, z))
        depth = np.minimum(np.minimum(half_x - x, np.minimum(y - y_in, y_out - y)), np.minimum(z - low, high - z))
        hit = self._owner[near[depth.max(1) > SKIN_M]]
        if len(hit) == 0:
            return None
        return "hits own object" if (hit == self._things.index(name)).any() else "hits neighbour"

    def _contacts(
        self, grasp: Grasp, sign: float, opening_m: float, gripper: ParallelGripper
    ) -> tuple[Array, Array, NDArray[np.int_]]:
        """Where the pad at `sign` * y touches: points and outward normals (K, 3), tcp frame; labels (K,)."""
        around = np.flatnonzero((np.abs(self._middle - grasp.T_base_tcp[:3, 3]) < self._radius + PADS_M).all(1))
        triangles = (self._corners[around] - grasp.T_base_tcp[:3, 3]) @ grasp.T_base_tcp[:3, :3]
        tip = float(gripper.tip_past_tcp_m(grasp.width_m))
        half, reach_m = gripper.pad_width_m / 2, opening_m / 2 + SKIN_M
        low, high = np.array([-half, -reach_m, tip - gripper.pad_length_m]), np.array([half, reach_m, tip])
        near = np.flatnonzero(((triangles.min(1) <= high) & (triangles.max(1) >= low)).all(1))
        triangles = triangles[near]
        x, z = (np.arange(low[k] + GRID_M / 2, high[k], GRID_M) for k in (0, 2))
        rays = np.stack(np.meshgrid(x, z), -1).reshape(-1, 2)
        y, face = first_hits(rays, triangles, sign, reach_m)
        travel = -sign * y
        touching = np.isfinite(y) & (travel < travel.min(initial=np.inf) + TOUCH_M)
        a, b, c = triangles[face[touching]].swapaxes(0, 1)
        points = np.stack([rays[touching, 0], y[touching], rays[touching, 1]], -1)
        return points, _unit(np.cross(b - a, c - a)), self._label[around[near[face[touching]]]]


def _pressure_centres(points: Array) -> Array:
    """Some of the points (N, 3) where a pad's force may act: anywhere between those it touches."""
    steps = np.linspace(0, np.pi, 8, endpoint=False)
    along = points[:, [0, 2]] @ np.stack([np.cos(steps), np.sin(steps)])
    corners = points[np.unique(np.concatenate([along.argmin(0), along.argmax(0)]))]
    share = np.linspace(0, 1, 9)[:, None, None, None]
    return np.asarray((share * corners[:, None] + (1 - share) * corners[None]).reshape(-1, 3))


def _unit(v: Array) -> Array:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def first_hits(rays: Array, triangles: Array, sign: float, reach_m: float) -> tuple[Array, NDArray[np.int_]]:
    """Rays at (x, z) (N, 2) that start at y = `sign` * reach_m and go the other way, against triangles (F, 3, 3): y of
    the first hit (N,), -sign * inf for none, and the triangle's index."""
    if len(triangles) == 0:
        return np.full(len(rays), -sign * np.inf), np.zeros(len(rays), int)
    a, b, c = (triangles[:, i][:, [0, 2]] for i in range(3))
    area = _cross(b - a, c - a)
    area = np.where(np.abs(area) < 1e-14, np.nan, area)  # seen edge on
    p = rays[:, None]
    u, v = _cross(p - a, c - a) / area, _cross(b - a, p - a) / area  # (N, F)
    height = triangles[:, :, 1]
    y = height[:, 0] + u * (height[:, 1] - height[:, 0]) + v * (height[:, 2] - height[:, 0])
    inside = (u >= -EDGE) & (v >= -EDGE) & (u + v <= 1 + EDGE)
    travel = np.where(inside & (sign * y <= reach_m), -sign * y, np.inf)
    face = travel.argmin(1)
    return -sign * travel[np.arange(len(rays)), face], face


def _cross(a: Array, b: Array) -> Array:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def surfaces_of(cell: SimCell) -> TrueSurfaces:
    """The things of a cell as they lay at its last look."""
    poses = {thing.name: thing.T_base_object for thing in cell.truth()}
    return TrueSurfaces(
        {
            o.name: [(v.part, transform_points(poses[o.name], v.mesh.vertices), v.mesh.faces) for v in o.obj.visuals]
            for o in cell.scene.objects
        }
    )


@dataclass(frozen=True)
class Trial:
    """One scene, every thing of it the target once. backend: see `tools.grasping.backends.open_backend`. raw: what the
    backend's network says itself, in its own order: not refined, filtered or ranked here."""

    scene: str
    seed: int
    noise: bool
    backend: str = "antipodal"
    raw: bool = False

    @property
    def key(self) -> str:
        noise, raw = "-noise" if self.noise else "", "-raw" if self.raw else ""
        return f"{self.scene}-{self.seed}{noise}-{self.backend}{raw}"


def run_trial(trial: Trial) -> Row:
    """The row of one scene: per target the reasons of its grasps, best ranked first, and what lift and propose took."""
    from affordagent.robot.sim.cell import SimCell
    from affordagent.robot.sim.objects.library import HELD_OUT
    from affordagent.robot.sim.scene import sample_scene
    from affordagent.tools.grasping.backends import open_backend
    from affordagent.tools.table import find_objects

    backend = open_backend(trial.backend)
    backend.load()
    targets = []
    with SimCell(sample_scene(trial.scene, trial.seed), noise=trial.noise, seed=trial.seed) as cell:
        frame, truth, surfaces = cell.look(), cell.truth(), surfaces_of(cell)
        table = find_objects(frame)
        for thing in truth:
            start = time.process_time()
            outcome = _propose(frame, table, thing, backend, trial.raw)
            cpu_s = time.process_time() - start
            target = {"name": thing.name, "category": thing.category, "part": thing.part, "cpu_s": round(cpu_s, 4)}
            target |= {"held_out": thing.category in HELD_OUT, "valid_depth": outcome.valid_fraction}
            reasons = [surfaces.judge(grasp, thing.name, thing.part) for grasp in outcome.grasps]
            targets.append(target | {"failure": outcome.failure, "reasons": reasons})
    return {"key": trial.key, **asdict(trial), "targets": targets}


@dataclass(frozen=True)
class Proposed:
    grasps: Sequence[Grasp]
    failure: str | None
    valid_fraction: float


def _propose(frame: RgbdFrame, table: TableScene, thing: TrueObject, backend: Backend, raw: bool) -> Proposed:
    from affordagent.core.types import PartMask
    from affordagent.tools.depth_projection import lift
    from affordagent.tools.grasping.propose import propose

    try:
        cloud = lift(frame, table, PartMask(thing.part_mask, thing.mask, 1.0, "truth"))
        grasps = _as_proposed(frame, cloud, backend) if raw else propose(cloud, backend=backend, frame=frame)
    except StageFailure as failure:
        return Proposed([], failure.code, 0.0)
    return Proposed(grasps, None, round(cloud.valid_fraction, 3))


def _as_proposed(
    frame: RgbdFrame, cloud: PartCloud, backend: Backend, gripper: ParallelGripper = ROBOTIQ_2F85
) -> GraspSet:
    """A network's own grasps on the part in its own order: our hand with its tips where its hand has them, as wide open
    as it goes, since the networks' widths are poor.

    Raises:
        StageFailure: as the backend's `proposals`, or grasp.none.
        AffordAgentError: the backend is none of a network.
    """
    from affordagent.core.types import GraspSet
    from affordagent.tools.grasping.graspgen import GraspGenBackend
    from affordagent.tools.grasping.learned import ContactGraspNetBackend, GraspNetBaselineBackend

    if not isinstance(backend, ContactGraspNetBackend | GraspNetBaselineBackend | GraspGenBackend):
        raise AffordAgentError(f"{backend.name} is no network: it has no grasps of its own to be judged raw")
    T, _ = backend.proposals(frame, cloud, np.random.default_rng(0))
    if len(T) == 0:
        raise StageFailure("propose", "grasp.none", f"{backend.name} has no grasp on the part")
    width_m = np.full(len(T), gripper.max_width_m)
    T[:, :3, 3] -= gripper.tip_past_tcp_m(width_m)[:, None] * T[:, :3, 2]
    return GraspSet(T, width_m, np.linspace(1, 0, len(T)), {}, gripper.name, backend.name)


def summary(rows: Iterable[Row]) -> Row:
    """Rates of valid grasps among the best 1, 5, 20 and all; of the best 20 by category and by reason; CPU seconds.

    A target with fewer grasps counts with those it has. per_target: mean over targets of the rate among their best 20.
    """
    targets = [target for row in rows for target in row["targets"]]
    found = [target for target in targets if target["reasons"]]
    cpu_s = [target["cpu_s"] for target in targets]
    by_category = {c: [t for t in found if t["category"] == c] for c in sorted({t["category"] for t in found})}
    return {
        "targets": len(targets),
        "without_grasps": dict(Counter(t["failure"] for t in targets if not t["reasons"])),
        **{f"top_{top}": _validity(found, top) for top in TOPS},
        "all": _validity(found, None),
        "per_target_top_20": round(float(np.mean([_share(t["reasons"][:20]) for t in found])), 4),
        "reasons_top_20": dict(Counter(reason for t in found for reason in t["reasons"][:20]).most_common()),
        "cpu_s": {"median": round(float(np.median(cpu_s)), 3), "p95": round(float(np.quantile(cpu_s, 0.95)), 3)},
        "by_category_top_20": {c: _validity(of_it, 20) for c, of_it in by_category.items()},
    }


def _share(reasons: Sequence[str]) -> float:
    return sum(reason == "valid" for reason in reasons) / len(reasons)


def _validity(targets: Sequence[Row], top: int | None) -> dict[str, float | int | list[float]]:
    reasons = [reason for target in targets for reason in target["reasons"][:top]]
    return rate(sum(reason == "valid" for reason in reasons), len(reasons))


def print_summary(title: str, numbers: Row) -> None:
    print(f"{title}: {numbers['targets']} targets, without grasps: {numbers['without_grasps'] or 'none'}")
    for name in (*(f"top_{top}" for top in TOPS), "all"):
        r = numbers[name]
        low, high = r["wilson95"]
        print(f"  {name:7s} {r['k']:5d} of {r['n']:5d} valid, {r['rate']:.1%} ({low:.1%} to {high:.1%})")
    print(f"  mean of the targets' top 20: {numbers['per_target_top_20']:.1%}")
    print(f"  CPU-s of lift and propose: median {numbers['cpu_s']['median']}, p95 {numbers['cpu_s']['p95']}")
    print("  top 20 by reason: " + ", ".join(f"{name} {k}" for name, k in numbers["reasons_top_20"].items()))
    worst = sorted(numbers["by_category_top_20"].items(), key=lambda item: item[1]["rate"])
    print("  by category: " + ", ".join(f"{name} {r['rate']:.0%} of {r['n']}" for name, r in worst))


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenes", nargs="+", default=["mixed", "novel"], help="names of scenes")
    parser.add_argument(
        "--seeds", type=_seeds, default=range(10), metavar="FIRST-LAST", help="1000 and up: for reports"
    )
    parser.add_argument("--noise", choices=("off", "on", "both"), default="both", help="of the depth sensor")
    parser.add_argument("--backend", default="antipodal", help="who proposes, as in the setting `grasps`")
    parser.add_argument("--raw", action="store_true", help="judge what a network itself says, on the part, unrefined")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for trials.jsonl; a restart goes on")
    args = parser.parse_args()
    noises = {"off": [False], "on": [True], "both": [False, True]}[args.noise]
    cases = product(noises, args.scenes, args.seeds)
    trials = [Trial(scene, seed, noise, args.backend, args.raw) for noise, scene, seed in cases]
    rows = run_trials(trials, args.out / "trials.jsonl", run_trial, args.workers)
    for noise in noises:
        for scene in args.scenes:
            chosen = [row for row in rows if row["scene"] == scene and row["noise"] == noise]
            print_summary(
                f"{args.backend}{' raw' if args.raw else ''}, {scene}{', with depth noise' if noise else ''}",
                summary(chosen),
            )


if __name__ == "__main__":
    main()
