"""AP of ranked grasps as GraspNet-1Billion defines it, for any meshes whose poses are known; without graspnetAPI, which
needs numpy 1.20.

    python -m affordagent.evaluations.grasp_ap GRASPS.npy [MORE.npy] --scene mixed --seeds 3      # camera frame
    python -m affordagent.evaluations.grasp_ap GRASPS.npy --objects scene.json
    python -m affordagent.evaluations.grasp_ap --backend antipodal --scene mixed --seeds 0-9

Fang et al., "GraspNet-1Billion: A Large-Scale Benchmark for General Object Grasping" (CVPR 2020), and its evaluation
code, graspnetAPI 1.2.11, whose steps and constants these are:

1. widths are cut to [0, 0.1 m]; a grasp within 3 cm and 30 degrees of a better one is dropped;
2. each grasp belongs to the thing that has the model point (one in 8 mm) nearest to its translation; each thing keeps
   its 10 best, and of those stay the ones that score no less than the 50th best of the scene;
3. a grasp that has a model or table point in its fingers (10 mm thick, 20 mm high) or in its palm, or fewer than 10
   points between the fingers, fails: thin things seldom have 10. Looked at are points within 5 cm of the thing's box;
4. each fingertip moves along the closing axis to the middle. Where both meet the thing, the contacts are held against
   friction coefficients of 0.2 to 1.2: the least one for which the line between them lies in both friction cones
   (Nguyen, 1988) is the grasp's score, -1 where none will do;
5. with the grasps in the order of their own scores, precision at k counts those of the first k that hold at a friction;
   AP_mu is its mean over k = 1 to 50, missing grasps counted as failures, and AP the mean of all AP_mu.

Where this differs from the original: contacts are found by casting a ray at the mesh, with the normal of the triangle
that it hits, in place of steps through a signed distance field with its gradient: exact on edges, and more sensitive to
the noise of scanned meshes. Model points are means, over such 8 mm cells, of samples spread evenly over the surface, in
place of the vertices of the scan. Grasps of equal score keep their order.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array, check_rigid, invert, rigid, transform_points
from affordagent.evaluations.grasp_truth import first_hits
from affordagent.tools.grasping.file_format import COLUMNS, to_array
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85, ParallelGripper

if TYPE_CHECKING:
    import trimesh

    from affordagent.core.types import Grasp
    from affordagent.robot.sim.cell import SimCell

FRICTIONS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
TOP = 50
TOP_OF_THING = 10
NMS_M, NMS_RAD = 0.03, np.deg2rad(30)
MAX_WIDTH_M = 0.1
VOXEL_M = 0.008
SPACING_M = 0.002  # of the samples that a voxel's point is the mean of
OUTLIER_M = 0.05
FINGER_M, HEIGHT_M, BASE_M = 0.01, 0.02, 0.02  # thickness, height; how far the fingers reach behind the translation
LEAST_INSIDE = 10
OWN_DEPTH_M = 0.04  # that our own grasps are given: the largest in the benchmark's, whose palm is nearer than ours
TABLE_M = (1.0, 1.0, 0.05)
SCORE, WIDTH, DEPTH = 0, 1, 3


@dataclass(frozen=True)
class Thing:
    """corners: (F, 3, 3) triangles in the thing's own frame. points: (P, 3), one in VOXEL_M. T_scene_thing: (4, 4)."""

    corners: Array
    points: Array
    T_scene_thing: Array

    @classmethod
    def of(cls, mesh: trimesh.Trimesh, T_scene_thing: Array) -> Thing:
        import trimesh

        samples = trimesh.sample.sample_surface(mesh, int(mesh.area / SPACING_M**2) + 1, seed=0)[0]
        return cls(np.asarray(mesh.triangles), voxel_means(np.concatenate([samples, mesh.vertices])), T_scene_thing)


@dataclass(frozen=True)
class Judged:
    """The grasps that were judged, best ranked first. rows: (K, 17). thing: (K,) index. collides: (K,) bool.
    friction: (K,) the least one at which it holds, -1 where it does not."""

    rows: Array
    thing: NDArray[np.int_]
    collides: NDArray[np.bool_]
    friction: Array

    @property
    def precision(self) -> Array:
        """(50, 6): share of the first k grasps that hold, for each k and friction."""
        holds = (self.friction[:TOP, None] > 0) & (self.friction[:TOP, None] <= np.array(FRICTIONS) + 1e-9)
        count = np.zeros((TOP, len(FRICTIONS)))
        count[: len(holds)] = holds
        return np.asarray(np.cumsum(count, 0) / np.arange(1, TOP + 1)[:, None])


def judge(
    rows: Array, things: Sequence[Thing], T_scene_table: Array | None, max_width_m: float = MAX_WIDTH_M
) -> Judged:
    """The verdict on one scene's grasps.

    rows: (N, 17) of graspnetAPI in the scene's frame (see `file_format`), width being the opening before closing.
    T_scene_table: the table's top, z up, origin amid the things; None = no table.

    Raises:
        ValueError: rows are not (N, 17) or not finite, or there are no things.
    """
    rows = np.array(rows, float)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS or not np.isfinite(rows).all():
        raise ValueError(f"grasps are finite rows of {COLUMNS} columns, got {rows.shape}")
    if not things:
        raise ValueError("no things to grasp in the scene")
    rows[:, WIDTH] = rows[:, WIDTH].clip(0, max_width_m)
    clouds = [transform_points(thing.T_scene_thing, thing.points) for thing in things]
    rows, owner = selected(without_near_twins(rows), clouds)
    scene = np.concatenate(clouds if T_scene_table is None else [*clouds, transform_points(T_scene_table, _table())])
    collides, friction = np.ones(len(rows), bool), np.full(len(rows), -1.0)
    for i, (thing, cloud) in enumerate(zip(things, clouds, strict=True)):
        own = np.flatnonzero(owner == i)
        low, high = cloud.min(0) - OUTLIER_M, cloud.max(0) + OUTLIER_M
        near = scene[((scene > low) & (scene < high)).all(1)]
        triangles = transform_points(thing.T_scene_thing, thing.corners.reshape(-1, 3)).reshape(-1, 3, 3)
        for k in own:
            collides[k] = _collides(rows[k], near)
            if not collides[k]:
                friction[k] = least_friction(rows[k], triangles)
    return Judged(rows, owner, collides, friction)


def without_near_twins(rows: Array) -> Array:
    """The rows, best score first, without those that are near a better one that stays."""
    rows = rows[np.argsort(-rows[:, SCORE], kind="stable")]
    kept: list[int] = []
    R, t = rows[:, 4:13].reshape(-1, 3, 3), rows[:, 13:16]
    for i in range(len(rows)):
        turn = np.einsum("kab,ab->k", R[kept], R[i])  # traces of R_k^T R_i
        angle = np.arccos(((turn - 1) / 2).clip(-1, 1))
        if not ((np.linalg.norm(t[kept] - t[i], axis=1) < NMS_M) & (angle < NMS_RAD)).any():
            kept.append(i)
    return rows[kept]


def selected(rows: Array, clouds: Sequence[Array]) -> tuple[Array, NDArray[np.int_]]:
    """The rows that are judged, best first, and the index of the thing that each belongs to."""
    from scipy.spatial import KDTree

    owners = np.repeat(np.arange(len(clouds)), [len(cloud) for cloud in clouds])
    owner = owners[KDTree(np.concatenate(clouds)).query(rows[:, 13:16])[1]].reshape(-1)
    order = np.argsort(-rows[:, SCORE], kind="stable")
    best = [k for i in range(len(clouds)) for k in order[owner[order] == i][:TOP_OF_THING]]
    best = sorted(best, key=lambda k: -rows[k, SCORE])
    if len(best) > TOP:
        best = [k for k in best if rows[k, SCORE] >= rows[best[TOP - 1], SCORE]]
    return rows[best], owner[best]


def least_friction(row: Array, triangles: Array) -> float:
    """The least of FRICTIONS at which the two contacts oppose each other, -1 where there is none.

    triangles: (F, 3, 3) of the thing, in the row's frame.
    """
    R = row[4:13].reshape(3, 3)
    local = (triangles - (row[13:16] + row[DEPTH] * R[:, 0])) @ R  # origin amid the fingertips, y = closing axis
    reach = row[WIDTH] / 2
    local = local[((local.min(1)[:, [0, 2]] <= 0) & (local.max(1)[:, [0, 2]] >= 0)).all(1)]
    wanted, ends = 0.0, []
    for sign in (-1.0, 1.0):
        y, face = first_hits(np.zeros((1, 2)), local, sign, reach)
        if not np.isfinite(y[0]) or sign * y[0] < 0:  # it would have to go past the middle
            return -1.0
        a, b, c = local[face[0]]
        normal = np.cross(b - a, c - a)
        along = abs(normal[1]) / max(float(np.linalg.norm(normal)), 1e-15)
        wanted = max(wanted, float(np.sqrt(max(0.0, 1 - along**2)) / max(along, 1e-9)))
        ends.append(float(y[0]))
    if ends[0] == ends[1]:
        return -1.0
    return next((mu for mu in FRICTIONS if wanted <= mu + 1e-9), -1.0)


def voxel_means(points: Array) -> Array:
    """One point for each VOXEL_M cell that holds any: their mean."""
    cells = np.floor((points - points.min(0)) / VOXEL_M + 0.5).astype(int)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    return np.stack([np.bincount(cell, points[:, i]) / np.bincount(cell) for i in range(3)], 1)


def average_precision(precisions: Sequence[Array]) -> dict[str, float]:
    """AP and AP_mu of scenes, in percent."""
    of_mu = 100 * np.mean(precisions, axis=(0, 1))
    return {"AP": float(of_mu.mean())} | {f"AP_{mu:g}": float(v) for mu, v in zip(FRICTIONS, of_mu, strict=True)}


def _collides(row: Array, near: Array) -> bool:
    """Are there points in the hand, or too few between the fingers?"""
    x, y, z = ((near - row[13:16]) @ row[4:13].reshape(3, 3)).T
    half, high = row[WIDTH] / 2, np.abs(z) < HEIGHT_M / 2
    beside = high & (x > -BASE_M) & (x < row[DEPTH])
    fingers = beside & (np.abs(y) > half) & (np.abs(y) < half + FINGER_M)
    palm = high & (np.abs(y) < half + FINGER_M) & (x > -BASE_M - FINGER_M) & (x < -BASE_M)
    return bool((fingers | palm).any() or (beside & (np.abs(y) <= half)).sum() < LEAST_INSIDE)


def _table() -> Array:
    """(T, 3) points in the table's frame: its top, and 5 cm under it."""
    x, y, z = (np.linspace(0, side, int(side / VOXEL_M)) for side in TABLE_M)
    grid = np.stack(np.meshgrid(x - TABLE_M[0] / 2, y - TABLE_M[1] / 2, z - TABLE_M[2]), -1)
    return grid.reshape(-1, 3)


# Scenes


def rows_of(grasps: Sequence[Grasp], gripper: ParallelGripper = ROBOTIQ_2F85) -> Array:
    """(N, 17) rows of our own grasps as this benchmark's hand would have to hold them, base frame: its fingertips where
    our pads touch, as it judges at the tips, opened as far as ours before it closes."""
    rows = to_array(grasps, gripper=gripper)
    for row, grasp in zip(rows, grasps, strict=True):
        row[WIDTH], row[DEPTH] = gripper.opening_for_m(grasp.width_m), OWN_DEPTH_M
        row[13:16] = grasp.T_base_tcp[:3, 3] - row[DEPTH] * grasp.T_base_tcp[:3, 2]
    return rows


def scene_of_cell(cell: SimCell) -> tuple[list[Thing], Array]:
    """The things of a simulated cell as they lay at its last look, in the base frame, and its table."""
    import trimesh

    poses = {thing.name: thing.T_base_object for thing in cell.truth()}
    things = []
    for placed in cell.scene.objects:
        mesh = trimesh.util.concatenate([visual.mesh for visual in placed.obj.visuals])
        things.append(Thing.of(cast("trimesh.Trimesh", mesh), poses[placed.name]))
    middle = np.mean([pose[:3, 3] for pose in poses.values()], axis=0)
    return things, rigid(np.eye(3), np.array([middle[0], middle[1], 0.0]))


def scene_of_file(path: Path) -> tuple[list[Thing], Array | None]:
    """{"objects": [{"mesh": FILE, "T_camera_object": 4x4}], "T_camera_table": 4x4 or null}; files beside it.

    Raises:
        AffordAgentError: the file, or a mesh that it names, cannot be read.
    """
    import trimesh

    try:
        told = json.loads(path.read_text())
        things = [
            Thing.of(trimesh.load_mesh(path.parent / o["mesh"]), _pose(o["T_camera_object"])) for o in told["objects"]
        ]
        table = told.get("T_camera_table")
        return things, None if table is None else _pose(table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AffordAgentError(f"cannot read the scene {path} ({type(error).__name__}: {error})") from error


def _pose(rows: object) -> Array:
    return check_rigid(np.array(rows, float), "a pose")


def _rows_in(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False), float)
    except (OSError, ValueError) as error:
        raise AffordAgentError(f"cannot read {path} as grasps of graspnetAPI ({error})") from error


def judge_simulated(scene: str, seed: int, path: Path | None, backend: str) -> Judged:
    """The grasps in a file (camera frame), or those that a backend proposes on all things, in a simulated scene."""
    from affordagent.core.errors import StageFailure
    from affordagent.core.types import PartMask
    from affordagent.robot.sim.cell import SimCell
    from affordagent.robot.sim.scene import sample_scene
    from affordagent.tools.depth_projection import lift
    from affordagent.tools.grasping.backends import open_backend
    from affordagent.tools.grasping.propose import propose
    from affordagent.tools.table import find_objects

    with SimCell(sample_scene(scene, seed), seed=seed) as cell:
        frame = cell.look()
        things, T_base_table = scene_of_cell(cell)
        if path is not None:
            if frame.T_base_camera is None:
                raise AffordAgentError("the camera's pose is not known")
            T_camera_base = invert(frame.T_base_camera)
            in_camera = [Thing(t.corners, t.points, T_camera_base @ t.T_scene_thing) for t in things]
            return judge(_rows_in(path), in_camera, T_camera_base @ T_base_table)
        source, table = open_backend(backend), find_objects(frame)
        source.load()
        rows = []
        for thing in cell.truth():
            try:
                cloud = lift(frame, table, PartMask(thing.mask, thing.mask, 1.0, "truth"))
                rows.append(rows_of(list(propose(cloud, backend=source, frame=frame))))
            except StageFailure:  # no grasps on this thing
                continue
        return judge(np.concatenate([np.zeros((0, COLUMNS)), *rows]), things, T_base_table)


def print_scene(name: str, judged: Judged) -> None:
    failed = int((judged.friction < 0).sum() - judged.collides.sum())
    numbers = average_precision([judged.precision])
    shown = "  ".join(f"{key} {value:5.1f}" for key, value in numbers.items())
    print(f"{name:32s} {shown}   {len(judged.rows)} judged, {int(judged.collides.sum())} collide, {failed} slip")


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="*", type=Path, metavar="GRASPS.npy", help="(N, 17), camera frame; one a seed")
    parser.add_argument("--objects", type=Path, metavar="FILE", help="JSON: meshes, their poses, the table's pose")
    parser.add_argument("--scene", default="mixed", help="of the simulated cell")
    parser.add_argument("--seeds", type=_seeds, default=range(1), metavar="FIRST-LAST")
    parser.add_argument("--backend", default="antipodal", help="who proposes where no files are given")
    args = parser.parse_args()
    if args.objects:
        scene = scene_of_file(args.objects)
        named = {str(path): judge(_rows_in(path), *scene) for path in args.files}
    else:
        if args.files and len(args.files) != len(args.seeds):
            parser.error(f"{len(args.files)} files for {len(args.seeds)} seeds: give one file for each seed")
        files = args.files or [None] * len(args.seeds)
        named = {
            f"{args.scene} {seed}": judge_simulated(args.scene, seed, path, args.backend)
            for seed, path in zip(args.seeds, files, strict=True)
        }
    for name, judged in named.items():
        print_scene(name, judged)
    numbers = average_precision([judged.precision for judged in named.values()])
    print("all: " + "  ".join(f"{key} {value:.1f}" for key, value in numbers.items()))


if __name__ == "__main__":
    main()
