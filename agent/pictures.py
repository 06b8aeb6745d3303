"""Pictures of a run: the mask on the image, and the cloud with grasps and path in 3D. Reads the run folder only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.run_store import RunStore
from affordagent.core.types import Grasp, GraspPlan, Mask, PartMask, RgbdFrame, TableScene
from affordagent.robot.arms import ArmName

if TYPE_CHECKING:
    import plotly.graph_objects as go

PART_RGB, OBJECT_RGB, PROPOSAL_RGB, DESTINATION_RGB = (255, 0, 190), (40, 190, 90), (90, 140, 240), (250, 190, 30)
FINGER_M, PALM_M = 0.045, 0.06  # drawn lengths: pads to palm, palm backwards
CLOUD_POINTS, GRASPS_DRAWN = 15000, 20
VIEW_M = {"x": (0.05, 0.95), "y": (-0.5, 0.5), "z": (-0.05, 0.45)}  # the part of the base frame that is shown


def overlay(
    frame: RgbdFrame, table: TableScene | None, part: PartMask | None, destination: PartMask | None = None
) -> Image.Image:
    """The colour image with proposal boxes (blue), the object's outline (green), the part's mask (magenta) and the
    outline of what it is to be put into, onto or beside (yellow)."""
    picture = frame.color.copy()
    for proposal in table.proposals if table else []:
        x0, y0, x1, y1 = (int(v) for v in proposal.box)
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), PROPOSAL_RGB, 1)
    if destination is not None:
        _outline(picture, destination.object_mask, DESTINATION_RGB, 2)
    if part is not None:
        tint = np.array(PART_RGB, np.float32)
        picture[part.mask] = (0.45 * picture[part.mask] + 0.55 * tint).astype(np.uint8)
        for mask, colour in ((part.object_mask, OBJECT_RGB), (part.mask, PART_RGB)):
            _outline(picture, mask, colour, 1)
    return Image.fromarray(picture)


def _outline(picture: NDArray[np.uint8], mask: Mask, colour: tuple[int, int, int], width: int) -> None:
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outline, -1, colour, width)


def save_overlay(folder: Path) -> Path | None:
    """overlay.png of a run, or None when the run ended before it saw anything."""
    store = RunStore(folder)
    if not store.has("frame"):
        return None
    table = store.get("table") if store.has("table") else None
    part = store.get("part_mask") if store.has("part_mask") else None
    destination = store.get("destination") if store.has("destination") else None
    path = folder / "overlay.png"
    overlay(store.get("frame"), table, part, destination).save(path)
    return path


def scene_3d(store: RunStore, arm: ArmName = "UR5e") -> go.Figure:
    """Plotly figure of the coloured cloud in the base frame, the grasps, and the tcp's way to the chosen one."""
    import plotly.graph_objects as go

    frame: RgbdFrame = store.get("frame")
    figure = go.Figure()
    figure.add_trace(_cloud_trace(frame, store.get("part_mask").mask if store.has("part_mask") else None))
    plan: GraspPlan | None = store.get("plan") if store.has("plan") else None
    if store.has("grasps"):
        grasps, _ = store.get("grasps")
        chosen = plan.grasp_index if plan else -1
        for i, grasp in enumerate(grasps[:GRASPS_DRAWN]):
            if i != chosen:
                figure.add_trace(_gripper_trace(grasp, grasp.width_m, "rgba(60,120,220,0.45)", 2, f"grasp {i + 1}"))
    if plan is not None:
        figure.add_trace(_gripper_trace(plan.grasp, plan.opening_m, "rgb(230,40,30)", 7, "chosen grasp"))
        path = _tcp_path(plan, arm)
        line = {"color": "rgb(240,150,20)", "width": 4}
        figure.add_trace(go.Scatter3d(x=path[:, 0], y=path[:, 1], z=path[:, 2], mode="lines", line=line, name="path"))
    figure.update_layout(
        scene={
            "aspectmode": "data",
            **{f"{axis}axis": {"title": f"{axis} m", "range": bounds} for axis, bounds in VIEW_M.items()},
        },
        scene_camera={"eye": {"x": 0.9, "y": -0.75, "z": 0.75}, "center": {"x": 0, "y": 0, "z": -0.25}},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        height=560,
        showlegend=False,
    )
    return figure


def _cloud_trace(frame: RgbdFrame, part: np.ndarray | None) -> go.Scatter3d:
    import plotly.graph_objects as go

    assert frame.T_base_camera is not None
    v, u = np.nonzero(frame.depth_m > 0)
    points = transform_points(frame.T_base_camera, frame.camera.back_project(frame.depth_m)[v, u])
    low, high = np.array(list(VIEW_M.values())).T
    inside = np.flatnonzero(((points > low) & (points < high)).all(1))
    keep = np.random.default_rng(0).permutation(inside)[:CLOUD_POINTS]
    colours = frame.color[v[keep], u[keep]].astype(int)
    if part is not None:
        colours[part[v[keep], u[keep]]] = PART_RGB
    css = [f"rgb({r},{g},{b})" for r, g, b in colours]
    x, y, z = np.round(points[keep], 4).T
    return go.Scatter3d(x=x, y=y, z=z, mode="markers", marker={"size": 2, "color": css}, hoverinfo="skip", name="cloud")


def _gripper_trace(grasp: Grasp, opening_m: float, colour: str, width: int, name: str) -> go.Scatter3d:
    import plotly.graph_objects as go

    x, y, z = np.round(_fork(grasp, opening_m), 4).T
    text = f"{name}: score {grasp.score:.2f}, width {1e3 * grasp.width_m:.0f} mm"
    line = {"color": colour, "width": width}
    return go.Scatter3d(x=x, y=y, z=z, mode="lines", line=line, name=name, text=text, hoverinfo="text")


def _fork(grasp: Grasp, opening_m: float) -> Array:
    """(7, 3) the gripper as a line in the base frame: two fingers along z, the bar along y, the wrist behind."""
    half = max(opening_m, 0.005) / 2
    line = [[0, -half, 0.008], [0, -half, -FINGER_M], [0, 0, -FINGER_M], [0, 0, -FINGER_M - PALM_M]]
    line += [[0, 0, -FINGER_M], [0, half, -FINGER_M], [0, half, 0.008]]
    return transform_points(grasp.T_base_tcp, np.array(line))


def grasps_on_image(frame: RgbdFrame, part: PartMask, grasps: Sequence[Grasp]) -> Image.Image:
    """The colour image with the part's mask and each grasp's gripper, open as wide as its contacts are apart: red where
    the score is low, green where it is high, the best on top."""
    assert frame.T_base_camera is not None
    picture = np.asarray(overlay(frame, None, part)).copy()
    T_camera_base = invert(frame.T_base_camera)
    for grasp in reversed(grasps):
        pixels = frame.camera.project(transform_points(T_camera_base, _fork(grasp, grasp.width_m)))
        points = np.round(8 * pixels).astype(np.int32)  # in eighths of a pixel
        colour = tuple(int(255 * c) for c in (min(1.0, 2 - 2 * grasp.score), min(1.0, 2 * grasp.score), 0.1))
        for rgb, width in (((0, 0, 0), 3), (colour, 1)):
            cv2.polylines(picture, [points], False, rgb, width, cv2.LINE_AA, shift=3)
    return Image.fromarray(picture)


def _tcp_path(plan: GraspPlan, arm: ArmName) -> Array:
    """(N, 3) positions of the tcp along the whole motion, base frame."""
    from affordagent.robot.kinematics import chain_of

    ways = [plan.to_pregrasp, plan.approach, plan.lift]
    if (there := plan.delivery) is not None:
        ways += [there.carry, *([] if there.lower is None else [there.lower]), there.retreat]
    joints = np.concatenate([way.positions for way in ways])
    step = max(1, len(joints) // 150)
    chain = chain_of(arm)
    return chain.tcp(chain.links(joints[::step]))[:, :3, 3]
