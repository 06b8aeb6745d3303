"""`affordagent grasps`: the grasps of a run, for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError


def add(commands: Any) -> None:
    grasps = commands.add_parser(
        "grasps",
        help="list a run's grasps, or write them to a file for graspnetAPI",
        description="The file holds rows of graspnetAPI's GraspGroup: 0 score, 1 width, 2 height, 3 depth, 4-12 "
        "rotation, 13-15 translation, 16 object id (-1), metres. Back again: --grasps npy:FILE.",
    )
    grasps.add_argument("run_dir", type=Path, help="the run's folder")
    grasps.add_argument("--npy", type=Path, metavar="FILE", help="write (N, 17) rows to it")
    grasps.add_argument("--base", action="store_true", help="in the robot's base frame, not the camera's")
    grasps.set_defaults(handler=_grasps)


def _grasps(args: argparse.Namespace) -> int:
    from affordagent.core.run_store import RunStore
    from affordagent.tools.grasping.file_format import save_npy

    store = RunStore(args.run_dir)
    if not store.has("grasps"):
        raise AffordAgentError(f"{args.run_dir} holds no grasps: it is no run's folder, or the run ended before them")
    grasps, T_base_camera = store.get("grasps")
    print(f"{len(grasps)} grasps of a {grasps.gripper}, proposed by {grasps.backend}")
    for i, grasp in enumerate(grasps[:10]):
        x, y, z = grasp.T_base_tcp[:3, 3]
        at = f"tcp at {x:.3f} {y:.3f} {z:.3f} m in the base frame"
        print(f"{i:3d}  score {grasp.score:.3f}  width {1e3 * grasp.width_m:4.0f} mm  {at}")
    if args.npy is not None:
        try:
            save_npy(args.npy, grasps, None if args.base else T_base_camera)
        except OSError as error:
            raise AffordAgentError(f"cannot write {args.npy}: {error}") from error
        print(f"{args.npy}: {len(grasps)} rows in the {'base' if args.base else 'camera'} frame")
    return 0
