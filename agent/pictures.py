"""Pictures of a run: the mask on the image, and the cloud with grasps and path in 3D. Reads the run folder only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.run_store import RunStore
from affordagent.core.types import (
    Grasp,
    GraspPlan,
    GraspSet,
    JointTrajectory,
    Mask,
    PartCloud,
    PartMask,
    RgbdFrame,
    TableScene,
)
from affordagent.robot.arms import ArmName

if TYPE_CHECKING:
    import plotly.graph_objects as go

RGB = tuple[int, int, int]
PART_RGB, OBJECT_RGB, PROPOSAL_RGB, DESTINATION_RGB = (255, 0, 190), (40, 190, 90), (90, 140, 240), (250, 190, 30)
FINGER_M, PALM_M = 0.045, 0.06  # drawn lengths: pads to palm, palm backwards
CLOUD_POINTS, GRASPS_DRAWN, PATH_POINTS = 15000, 20, 60  # the points of each phase of the path
STANDING, ABOVE_TABLE_M = 0.7, 0.006  # share of the cloud's points for what stands on the table
AXIS_M, AXIS_COLOURS = 0.1, ("rgb(200,60,50)", "rgb(50,150,60)", "rgb(60,90,200)")
CHOSEN = "rgb(230,40,30)"
PHASE_COLOURS = {
    "way there": "rgb(170,170,180)",
    "approach": "rgb(240,150,20)",
    "lift": "rgb(150,90,200)",
    "delivery": "rgb(20,150,140)",
    "retreat": "rgb(120,100,80)",
}
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
        draw_outline(picture, destination.object_mask, DESTINATION_RGB, 2)
    if part is not None:
        tint = np.array(PART_RGB, np.float32)
        picture[part.mask] = (0.45 * picture[part.mask] + 0.55 * tint).astype(np.uint8)
        for mask, colour in ((part.object_mask, OBJECT_RGB), (part.mask, PART_RGB)):
            draw_outline(picture, mask, colour, 1)
    return Image.fromarray(picture)


def draw_outline(picture: NDArray[np.uint8], mask: Mask, colour: RGB, width: int) -> None:
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
    """Plotly figure in the base frame: the coloured cloud, the table's outline with the directions of the base's axes
    in its corner, the chosen grasp, the others that were considered, and the tcp's way, a line for each phase."""
    import plotly.graph_objects as go

    frame: RgbdFrame = store.get("frame")
    part: PartMask | None = store.readable("part_mask")
    cloud: PartCloud | None = store.readable("cloud")
    plan: GraspPlan | None = store.readable("plan")
    found: tuple[GraspSet, Array] | None = store.readable("grasps")
    figure = go.Figure()
    table_z_m = 0.0 if cloud is None else cloud.table_z_m
    figure.add_trace(_cloud_trace(frame, None if part is None else part.mask, table_z_m))
    figure.add_traces(_table_traces(table_z_m))
    if found is not None:
        figure.add_trace(_others_trace(found[0][:GRASPS_DRAWN], plan))
    if plan is not None:
        figure.add_trace(_chosen_trace(plan))
        figure.add_traces(_path_traces(plan, arm))
    axes = {
        f"{axis}axis": {"title": f"{axis} m", "range": bounds, "showbackground": False, "gridcolor": "rgb(228,230,235)"}
        for axis, bounds in VIEW_M.items()
    }
    figure.update_layout(
        scene={"aspectmode": "data", **axes},
        scene_camera={"eye": {"x": 0.9, "y": -0.75, "z": 0.75}, "center": {"x": 0, "y": 0, "z": -0.25}},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        height=560,
        legend={"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "bgcolor": "rgba(255,255,255,0.6)"},
        uirevision=store.folder.name,  # a figure that is replaced by a later one of the run stays as it was turned
    )
    return figure


def _cloud_trace(frame: RgbdFrame, part: Mask | None, table_z_m: float) -> go.Scatter3d:
    """What was seen, thinned; what stands on the table less so than the table."""
    import plotly.graph_objects as go

    assert frame.T_base_camera is not None
    v, u = np.nonzero(frame.depth_m > 0)
    points = transform_points(frame.T_base_camera, frame.camera.back_project(frame.depth_m)[v, u])
    low, high = np.array(list(VIEW_M.values())).T
    inside = np.flatnonzero(((points > low) & (points < high)).all(1))
    shuffled = np.random.default_rng(0).permutation(inside)
    stands = points[shuffled, 2] > table_z_m + ABOVE_TABLE_M
    standing = shuffled[stands][: int(STANDING * CLOUD_POINTS)]
    keep = np.concatenate([standing, shuffled[~stands][: CLOUD_POINTS - len(standing)]])
    colours = frame.color[v[keep], u[keep]].astype(int)
    if part is not None:
        colours[part[v[keep], u[keep]]] = PART_RGB
    css = [f"rgb({r},{g},{b})" for r, g, b in colours]
    x, y, z = points[keep].astype(np.float32).T
    marker = {"size": 2, "color": css}
    return go.Scatter3d(x=x, y=y, z=z, mode="markers", marker=marker, hoverinfo="skip", name="cloud", showlegend=False)


def _line(points: Array, colour: str, width: float, name: str, **more: Any) -> go.Scatter3d:
    """points: (N, 3) of the base frame; a row of NaN breaks the line."""
    import plotly.graph_objects as go

    x, y, z = points.astype(np.float32).T
    look = {"mode": "lines", "line": {"color": colour, "width": width}, "hoverinfo": "name"}
    return go.Scatter3d(x=x, y=y, z=z, name=name, **look | more)


def _table_traces(table_z_m: float) -> list[go.Scatter3d]:
    (x0, x1), (y0, y1) = VIEW_M["x"], VIEW_M["y"]
    corners = np.array([(x, y, table_z_m) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))])
    traces = [_line(corners, "rgb(150,150,160)", 2, "table", hoverinfo="skip", showlegend=False)]
    for name, colour, direction in zip("xyz", AXIS_COLOURS, np.eye(3), strict=True):
        ends = corners[0] + np.outer([0, AXIS_M], direction)
        label = {"text": ["", name], "mode": "lines+text", "textfont": {"color": colour}}
        traces.append(_line(ends, colour, 4, f"base {name}", hoverinfo="skip", showlegend=False, **label))
    return traces


def _others_trace(grasps: GraspSet, plan: GraspPlan | None) -> go.Scatter3d:
    """All but the chosen grasp as one broken line; what is said of each names why it was not taken, if it was tried."""
    rejected = {} if plan is None else {row["grasp_index"]: row["code"] for row in plan.rejected}
    points, said = [np.empty((0, 3))], []
    for i, grasp in enumerate(grasps):
        if plan is None or i != plan.grasp_index:
            drawn = fork(grasp, grasp.width_m)
            points += [drawn, np.full((1, 3), np.nan)]
            text = _about(grasp, f"grasp {i + 1}") + (f", {rejected[i]}" if i in rejected else "")
            said += [text] * (len(drawn) + 1)
    return _line(np.concatenate(points), "rgba(60,120,220,0.3)", 2, "other grasps", text=said, hoverinfo="text")


def _chosen_trace(plan: GraspPlan) -> go.Scatter3d:
    text = _about(plan.grasp, "chosen grasp")
    return _line(fork(plan.grasp, plan.opening_m), CHOSEN, 7, "chosen grasp", text=text, hoverinfo="text")


def _about(grasp: Grasp, name: str) -> str:
    return f"{name}: score {grasp.score:.2f}, width {1e3 * grasp.width_m:.0f} mm"


def fork(grasp: Grasp, opening_m: float) -> Array:
    """(7, 3) the gripper as a line in the base frame: two fingers along z, the bar along y, the wrist behind."""
    half = max(opening_m, 0.005) / 2
    line = [[0, -half, 0.008], [0, -half, -FINGER_M], [0, 0, -FINGER_M], [0, 0, -FINGER_M - PALM_M]]
    line += [[0, 0, -FINGER_M], [0, half, -FINGER_M], [0, half, 0.008]]
    return transform_points(grasp.T_base_tcp, np.array(line))


def grasps_on_image(frame: RgbdFrame, part: PartMask, grasps: Sequence[Grasp]) -> Image.Image:
    """The colour image with the part's mask and each grasp's gripper, open as wide as its contacts are apart: red where
    the score is low, green where it is high, the best on top."""
    picture = np.asarray(overlay(frame, None, part)).copy()
    for grasp in reversed(grasps):
        red, green = min(1.0, 2 - 2 * grasp.score), min(1.0, 2 * grasp.score)
        draw_gripper(picture, frame, grasp, grasp.width_m, (int(255 * red), int(255 * green), 25), 1)
    return Image.fromarray(picture)


def draw_gripper(
    picture: NDArray[np.uint8], frame: RgbdFrame, grasp: Grasp, opening_m: float, colour: RGB, width_px: int
) -> None:
    """The gripper at a grasp, open so far, as the camera of `frame` would see it through all else, drawn into the
    picture; nothing where a part of it would be behind the camera."""
    assert frame.T_base_camera is not None
    points = transform_points(invert(frame.T_base_camera), fork(grasp, opening_m))
    if (points[:, 2] <= 0).any():
        return
    pixels = np.round(8 * frame.camera.project(points)).astype(np.int32)  # in eighths of a pixel
    for rgb, width in (((0, 0, 0), width_px + 2), (colour, width_px)):
        cv2.polylines(picture, [pixels], False, rgb, width, cv2.LINE_AA, shift=3)


def _path_traces(plan: GraspPlan, arm: ArmName) -> list[go.Scatter3d]:
    """The tcp's way in the base frame, phase by phase, each from where the last one ends."""
    from affordagent.robot.kinematics import chain_of

    chain, traces, end = chain_of(arm), [], np.empty((0, 3))
    for name, ways in _phases(plan).items():
        joints = np.concatenate([way.positions for way in ways])
        step = max(1, len(joints) // PATH_POINTS)
        there = chain.tcp(chain.links(np.concatenate([joints[:-1:step], joints[-1:]])))[:, :3, 3]
        traces.append(_line(np.concatenate([end, there]), PHASE_COLOURS[name], 4, name))
        end = there[-1:]
    return traces


def _phases(plan: GraspPlan) -> dict[str, list[JointTrajectory]]:
    phases = {"way there": [plan.to_pregrasp], "approach": [plan.approach], "lift": [plan.lift]}
    if (there := plan.delivery) is not None:
        phases["delivery"] = [there.carry, *([] if there.lower is None else [there.lower])]
        phases["retreat"] = [there.retreat]
    return phases
