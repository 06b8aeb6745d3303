"""Rows of the benchmark from depth to the grasp: projection, grasps, planning, whole episodes on true masks."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from affordagent.core.geometry import Array
from affordagent.core.types import Mask, RgbdFrame
from affordagent.evaluations import grasp_truth, instances, planning
from affordagent.evaluations.figures import Bench, Figure
from affordagent.evaluations.trials import run_trials

REPORT_SEED = 1000  # scenes below are for development
PROJECTIONS = 100
# a few minutes, and as reported
GRASP_SCENES, PLANNING_SCENES, POSES = {False: 6, True: 30}, {False: 4, True: 60}, {False: 1, True: 10}


def projection(bench: Bench) -> list[Figure]:
    """Points of a mask in a 640 x 480 frame: ours against Open3D's RGB-D route, taking turns; all that stands on the
    table, and one object."""
    if importlib.util.find_spec("open3d") is None:
        print("no Open3D (pip install 'affordagent[bench]'): the projection is left out")
        return []
    from affordagent.robot.sim.cell import SimCell
    from affordagent.robot.sim.scene import sample_scene

    with SimCell(sample_scene("bench", 0), noise=True) as cell:
        frame, masks = cell.look(), [thing.mask for thing in cell.truth()]
    everything = np.logical_or.reduce(masks)
    return [*_projected(frame, everything, "all objects"), *_projected(frame, max(masks, key=np.sum), "one object")]


def _projected(frame: RgbdFrame, mask: Mask, name: str) -> list[Figure]:
    open3d_points = _open3d_route(frame)
    seconds: dict[str, list[float]] = {"ours": [], "open3d": []}
    for _ in range(PROJECTIONS):
        started = time.process_time()
        points = frame.camera.back_project_mask(frame.depth_m, mask)
        between = time.process_time()
        theirs = open3d_points(mask)
        seconds["open3d"].append(time.process_time() - between)
        seconds["ours"].append(between - started)
    ours_s, open3d_s = (float(np.median(seconds[side])) for side in ("ours", "open3d"))
    apart_m = float(np.abs(points - theirs).max()) if points.shape == theirs.shape else float("inf")
    parts = {"ours_cpu_s": ours_s, "open3d_cpu_s": open3d_s, "points": len(points), "pixels": int(mask.sum())}
    title = f"depth projection, {name}"
    return [
        Figure(f"{title}: Open3D / ours", open3d_s / ours_s, "x", least=3, parts=parts),
        Figure(f"{title}: largest difference", apart_m, "m", most=1e-6, parts=parts),
    ]


def _open3d_route(frame: RgbdFrame) -> Callable[[Mask], Array]:
    """Mask -> (N, 3) points, by an RGBDImage whose depth is 0 beside the mask; its pixel centres are at integers."""
    o3d: Any = importlib.import_module("open3d")
    camera = frame.camera
    intrinsics = o3d.camera.PinholeCameraIntrinsic(
        camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy
    )

    def points(mask: Mask) -> Array:
        rgbd = o3d.geometry.RGBDImage.create_from_color_and_depth(
            o3d.geometry.Image(frame.color),
            o3d.geometry.Image(np.where(mask, frame.depth_m, np.float32(0))),
            depth_scale=1.0,
            depth_trunc=10.0,
            convert_rgb_to_intensity=False,
        )
        return np.asarray(o3d.geometry.PointCloud.create_from_rgbd_image(rgbd, intrinsics).points)

    return points


def grasps(bench: Bench) -> list[Figure]:
    """Proposals on single views with true masks, judged on the true meshes; a rival's own grasps beside them."""
    first, count = REPORT_SEED if bench.full else 0, GRASP_SCENES[bench.full]
    scenes = list(product(("mixed", "novel"), range(first, first + count // 2), (False, True)))

    def judged(backend: str, raw: bool) -> dict[str, Any]:
        trials = [grasp_truth.Trial(scene, seed, noise, backend, raw) for scene, seed, noise in scenes]
        return grasp_truth.summary(run_trials(trials, bench.scratch / "grasps.jsonl", grasp_truth.run_trial))

    found = judged("antipodal", raw=False)
    figures = [
        Figure("grasps: valid of the top 20", found["top_20"]["rate"], "", least=0.9, parts=found),
        Figure("grasps: lift and propose, a target", found["cpu_s"]["median"], "CPU-s", most=0.7, parts=found["cpu_s"]),
    ]
    if bench.rival is None:
        print("no --rival: the grasps of a network are left out")
        return figures
    other = judged(bench.rival, raw=True)
    return [
        *figures,
        Figure(f"{bench.rival.partition(':')[0]}: valid of the top 20", other["top_20"]["rate"], "", parts=other),
        Figure(f"{bench.rival.partition(':')[0]}: a target", other["cpu_s"]["median"], "CPU-s", parts=other["cpu_s"]),
    ]


def plans(bench: Bench) -> list[Figure]:
    """Requests on simulated scenes, planned, and replayed among the true shapes."""
    first = REPORT_SEED if bench.full else 0
    trials = [planning.Trial(seed) for seed in range(first, first + PLANNING_SCENES[bench.full])]
    found = planning.summarise(run_trials(trials, bench.scratch / "plans.jsonl", planning.run_scene))["all"]
    solved, touching = found["solved_of_solvable"], found["plans_that_touch"]
    return [
        Figure("planning: solved of the solvable", solved["rate"], "", least=0.99, parts=solved),
        Figure("planning: median", found["cpu_s"]["p50"], "CPU-s", most=0.3, parts=found["cpu_s"]),
        Figure("planning: plans that touch anything", touching["k"], f"of {touching['n']}", most=0, parts=found),
    ]


def episodes(bench: Bench) -> list[Figure]:
    """Known and unseen things among others, from the true mask to the strict verdict."""
    first = instances.REPORT_SEED if bench.full else 0
    chosen = instances.trials(first, POSES[bench.full])
    found = instances.summarise(instances.run(chosen, bench.scratch / "instances.jsonl"))
    seconds = found["cpu_s_an_episode"]
    return [
        Figure(f"strict success, {half} things", figure["rate"], "", least=figure["goal"], parts=figure | found)
        for half, figure in ((half, found["clean"][half]) for half in ("known", "unseen"))
    ] + [Figure("an episode on a true mask", seconds["median"], "CPU-s", parts=seconds)]


GRASPING_BENCHES: tuple[Callable[[Bench], list[Figure]], ...] = (projection, grasps, plans, episodes)
