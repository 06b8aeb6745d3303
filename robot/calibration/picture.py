"""calibration.png: how well the corners fit in a typical and in the worst view, all residuals, and the poses in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.geometry import Array, transform_points
from affordagent.robot.calibration.board import Board
from affordagent.robot.calibration.file import Calibration
from affordagent.robot.calibration.hand_eye import MAX_RMS_PX, HandEye, View
from affordagent.robot.calibration.solving import Solved
from affordagent.robot.calibration.views import ViewFolder

_WIDTH, _HEIGHT, _GAP = 560, 420, 12  # of a panel
_FINE = 2  # drawn so much larger, then reduced: smooth lines
_LONGER = 30.0  # residuals in the pictures
_INK, _SOFT, _SEEN, _FITTED, _BAD = "#222222", "#c4c4c4", "#18a558", "#d3178a", "#d62728"
_AXES = ("#d62728", "#2ca02c", "#1f77b4")
_AXIS_M, _FRUSTUM_M = 0.1, 0.12
_AZIMUTH_RAD, _ELEVATION_RAD = np.radians(-50), np.radians(25)


def save_picture(solved: Solved, folder: ViewFolder, path: Path) -> None:
    """Draw it and save it as a PNG."""
    found, camera = solved.hand_eye, solved.calibration.camera.intrinsics
    order = np.argsort(found.view_rms_px)
    typical, worst = int(order[len(order) // 2]), int(order[-1])
    panels = [
        _view(folder, found, typical, "typical view"),
        _view(folder, found, worst, "worst view"),
        _poses(found, folder.board, camera),
        _scatter(found),
        _bars(found),
        _text(solved.calibration),
    ]
    sheet = Image.new("RGB", (3 * _WIDTH + 4 * _GAP, 2 * _HEIGHT + 3 * _GAP), "white")
    for i, panel in enumerate(panels):
        sheet.paste(panel, (_GAP + i % 3 * (_WIDTH + _GAP), _GAP + i // 3 * (_HEIGHT + _GAP)))
    sheet.save(path, optimize=True)


class _Panel:
    """A drawing in coordinates of the panel (origin top left, pixels)."""

    def __init__(self, title: str, picture: NDArray[np.uint8] | None = None) -> None:
        size = (_WIDTH * _FINE, _HEIGHT * _FINE)
        self._image = Image.new("RGB", size, "white") if picture is None else Image.fromarray(picture).resize(size)
        self._draw = ImageDraw.Draw(self._image)
        self.text((6, 4), title, back=True)

    def text(self, at: Sequence[float], text: str, color: str = _INK, size: int = 15, back: bool = False) -> None:
        place, font = (at[0] * _FINE, at[1] * _FINE), ImageFont.load_default(size * _FINE)
        if back:
            self._draw.rectangle(self._draw.textbbox(place, text, font), fill="white")
        self._draw.text(place, text, color, font)

    def line(self, points: Array, color: str = _INK, width: float = 1.5) -> None:
        flat = [(float(x) * _FINE, float(y) * _FINE) for x, y in points]
        self._draw.line(flat, color, max(1, round(width * _FINE)))

    def ring(self, centre: Array, radius: float, color: str) -> None:
        self._draw.ellipse(self._round(centre, radius), outline=color, width=_FINE)

    def dot(self, centre: Array, radius: float, color: str) -> None:
        self._draw.ellipse(self._round(centre, radius), fill=color)

    def bar(self, left: float, top: float, right: float, bottom: float, color: str) -> None:
        self._draw.rectangle((left * _FINE, top * _FINE, right * _FINE, bottom * _FINE), fill=color)

    @staticmethod
    def _round(centre: Array, radius: float) -> tuple[float, float, float, float]:
        x, y, r = float(centre[0]) * _FINE, float(centre[1]) * _FINE, radius * _FINE
        return x - r, y - r, x + r, y + r

    def done(self) -> Image.Image:
        return self._image.resize((_WIDTH, _HEIGHT), Image.Resampling.BOX)


def _view(folder: ViewFolder, found: HandEye, index: int, title: str) -> Image.Image:
    """The picture with rings where corners were seen and residuals, drawn longer."""
    view, residual = found.views[index], found.residuals_px[index]
    color = folder.frame(view.name).color
    scale = np.array([_WIDTH / color.shape[1], _HEIGHT / color.shape[0]])
    words = f"{title}: {view.name}, rms {found.view_rms_px[index]:.2f} px; errors drawn {_LONGER:.0f} times longer"
    panel = _Panel(words, color)
    for pixel, off in zip(view.pixels, residual, strict=True):
        panel.line(np.stack([pixel, pixel - _LONGER * off]) * scale, _FITTED, 2)
        panel.ring(pixel * scale, 5, _SEEN)
    return panel.done()


def _scatter(found: HandEye) -> Image.Image:
    panel = _Panel("all corners: seen minus reprojected, pixels")
    residuals = np.concatenate(found.residuals_px)
    reach = max(0.5, float(np.ceil(2 * np.abs(residuals).max()) / 2))
    middle, scale = np.array([_WIDTH / 2, _HEIGHT / 2 + 10]), (_HEIGHT / 2 - 34) / reach
    for radius in np.linspace(reach / 2, reach, 2):
        panel.ring(middle, radius * scale, _SOFT)
        panel.text(middle + [radius * scale * 0.71 + 2, radius * scale * 0.71], f"{radius:g}", "#777777", 12)
    for axis in np.eye(2):
        panel.line(middle + np.outer([-1, 1], axis) * reach * scale, _SOFT, 1)
    for residual in residuals:
        panel.dot(middle + residual * scale, 1.8, _FITTED)
    return panel.done()


def _bars(found: HandEye) -> Image.Image:
    """rms of each view; those left out in red, cut at the top."""
    panel = _Panel("rms of each view, pixels (red: left out)")
    values = {view.name: float(rms) for view, rms in zip(found.views, found.view_rms_px, strict=True)} | found.outliers
    top = max(MAX_RMS_PX, *(1.15 * values[view.name] for view in found.views))
    left, bottom, height = 40, _HEIGHT - 46, _HEIGHT - 90
    step = (_WIDTH - left - 10) / len(values)
    for level in (MAX_RMS_PX / 2, MAX_RMS_PX):
        y = bottom - level / top * height
        panel.line(np.array([[left, y], [_WIDTH - 10, y]]), _SOFT, 1)
        panel.text((8, y - 9), f"{level:g}", "#777777", 13)
    for i, (name, value) in enumerate(sorted(values.items())):
        x, color = left + (i + 0.15) * step, _BAD if name in found.outliers else _SEEN
        panel.bar(x, bottom - min(value / top, 1.0) * height, x + 0.7 * step, bottom, color)
        if len(values) <= 30:
            panel.text((x, bottom + 5), name.removeprefix("view_").lstrip("0") or "0", size=12)
        if name in found.outliers:
            panel.text((x, bottom - height - 20), f"{value:.1f}", _BAD, 12)
    return panel.done()


def _text(calibration: Calibration) -> Image.Image:
    r, T = calibration.residuals, calibration.T_mount_camera
    mount = "flange" if calibration.kind == "eye_in_hand" else "base"
    lines = [
        f"{calibration.kind.replace('_', ' ')}, {calibration.date:%Y-%m-%d %H:%M} UTC, {calibration.arm}",
        f"camera {calibration.camera.serial or 'without a serial'}, "
        f"{calibration.camera.width} x {calibration.camera.height}",
        f"camera in the {mount} frame: {', '.join(f'{1000 * v:.1f}' for v in T[:3, 3])} mm",
        f"  +- {r.spread_mm:.2f} mm, {r.spread_deg:.3f} degrees (jackknife)",
        f"reprojection: rms {r.rms_px:.2f} px, largest {r.max_px:.2f} px",
        f"each view by the others: {r.consistency_mm:.2f} mm, {r.consistency_deg:.2f} degrees",
        f"{r.views} views, left out: {', '.join(r.outliers) or 'none'}",
        "rotation about the main axes: " + ", ".join(f"{v:.0f}" for v in r.rotation_deg) + " degrees",
    ]
    if r.depth_offset_mm is not None and r.depth_scale is not None:
        lines.append(f"depth minus pose: {r.depth_offset_mm:+.1f} mm, ratio {r.depth_scale:.4f}")
    lines += [f"TOO POOR: {fault}" for fault in r.faults]
    panel = _Panel("result")
    for i, line in enumerate(lines):
        panel.text((14, 36 + 30 * i), line, _BAD if line.startswith("TOO POOR") else _INK, 17)
    return panel.done()


def _poses(found: HandEye, board: Board, camera: CameraIntrinsics) -> Image.Image:
    """Base, flanges, cameras and boards as lines, seen from the side and above, without perspective."""
    lines = [(points, color, 2.5) for points, color in _axes(np.eye(4))]
    flanges = np.array([view.T_base_flange[:3, 3] for view in found.views])
    for view in found.views:
        lines += [(points, color, 1.0) for points, color in _axes(view.T_base_flange, _AXIS_M / 3)]
    cameras, boards = _placed(found, found.views)
    lines += [(_frustum(T, camera), _INK, 1.0) for T in cameras]
    lines += [(_outline(T, board), _FITTED, 1.0) for T in boards]
    sideways = np.array([-np.sin(_AZIMUTH_RAD), np.cos(_AZIMUTH_RAD), 0.0])
    ahead = np.array([np.cos(_AZIMUTH_RAD), np.sin(_AZIMUTH_RAD), 0.0])
    down = np.array([0, 0, -np.cos(_ELEVATION_RAD)]) + np.sin(_ELEVATION_RAD) * ahead
    onto = np.stack([sideways, down], axis=1)
    flat = np.concatenate([points @ onto for points, _, _ in lines])
    low, high = flat.min(0), flat.max(0)
    scale = float(((np.array([_WIDTH, _HEIGHT - 30]) - 40) / (high - low)).min())
    shift = np.array([_WIDTH / 2, _HEIGHT / 2 + 15]) - scale * (low + high) / 2
    panel = _Panel("base axes, flanges (small axes), camera (black), board (pink)")
    for points, color, width in lines:
        panel.line(points @ onto * scale + shift, color, width)
    for spot in flanges @ onto * scale + shift:
        panel.dot(spot, 2, _INK)
    panel.text(shift - [36, 4], "base", size=13)
    return panel.done()


def _placed(found: HandEye, views: list[View]) -> tuple[list[Array], list[Array]]:
    """T_base_camera and T_base_board of all views; one of the two stands still."""
    X, Y = found.T_mount_camera, found.T_fixed_board
    if found.kind == "eye_in_hand":
        return [view.T_base_flange @ X for view in views], [Y]
    return [X], [view.T_base_flange @ Y for view in views]


def _axes(T: Array, length_m: float = _AXIS_M) -> list[tuple[Array, str]]:
    return [
        (np.stack([T[:3, 3], T[:3, 3] + length_m * T[:3, i]]), color) for i, color in enumerate(_AXES)
    ]  # red x, green y, blue z


def _frustum(T_base_camera: Array, camera: CameraIntrinsics) -> Array:
    wide, high = camera.width / camera.fx / 2, camera.height / camera.fy / 2
    corners = np.array([[-wide, -high, 1], [wide, -high, 1], [wide, high, 1], [-wide, high, 1]]) * _FRUSTUM_M
    eye = np.zeros((1, 3))
    path = np.concatenate([eye, corners[:2], eye, corners[1:3], eye, corners[2:], eye, corners[[3, 0]]])
    return transform_points(T_base_camera, path)


def _outline(T_base_board: Array, board: Board) -> Array:
    wide, high = board.columns * board.square_m, board.rows * board.square_m
    corners = np.array([[0, 0, 0], [wide, 0, 0], [wide, high, 0], [0, high, 0], [0, 0, 0]])
    return transform_points(T_base_board, corners)
