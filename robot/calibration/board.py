"""The ChArUco board: its facts, its page for the printer, its corners in a picture, and its pose from them.

Board frame: origin at the outer corner of the first square, x along its columns, y along its rows, z into the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array, rigid, transform_points

PIXELS_PER_MM = 20  # of the printed page
PAPERS_MM = {"a4": (210, 297), "a3": (297, 420), "letter": (216, 279)}
LEAST_CORNERS = 6
_MARGIN_MM = 12  # that printers leave white, and the lines of text
_RULER_MM = 100


@dataclass(frozen=True)
class Sighting:
    """Corners of the board in one picture. ids: (n,) int. pixels: (n, 2) float64 image coordinates (u, v)."""

    ids: NDArray[np.int64]
    pixels: Array


@dataclass(frozen=True)
class Board:
    """columns, rows: squares. square_m, marker_m: sides. dictionary: a predefined one of `cv2.aruco`.

    Raises:
        ValueError: sizes that make no board.
    """

    columns: int = 5
    rows: int = 7
    square_m: float = 0.035
    marker_m: float = 0.026
    dictionary: str = "DICT_4X4_50"

    def __post_init__(self) -> None:
        if self.columns < 4 or self.rows < 4:
            raise ValueError(f"the board has {self.columns} x {self.rows} squares, must have at least 4 x 4")
        if not 0.4 * self.square_m <= self.marker_m <= 0.9 * self.square_m:
            raise ValueError(
                f"marker_m = {self.marker_m} must lie between 0.4 and 0.9 of square_m = {self.square_m}: the detector "
                "needs white around each marker"
            )
        if not hasattr(cv2.aruco, self.dictionary):
            raise ValueError(f"dictionary = {self.dictionary!r} is none of cv2.aruco, such as DICT_4X4_50")
        held = self._dictionary.bytesList.shape[0]
        if self.columns * self.rows // 2 > held:
            raise ValueError(f"{self.dictionary} has {held} markers, the board needs {self.columns * self.rows // 2}")

    @property
    def _dictionary(self) -> cv2.aruco.Dictionary:
        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))

    @cached_property
    def _charuco(self) -> cv2.aruco.CharucoBoard:
        size = (self.columns, self.rows)
        return cv2.aruco.CharucoBoard(size, self.square_m, self.marker_m, self._dictionary)

    @cached_property
    def corners_m(self) -> Array:
        """(n, 3) inner corners in the board frame; a corner's id is its row here."""
        return np.asarray(self._charuco.getChessboardCorners(), np.float64)

    @property
    def centre_m(self) -> Array:
        """(3,) middle of the board in its frame."""
        return np.array([self.columns, self.rows, 0.0]) * self.square_m / 2

    @property
    def text(self) -> str:
        """Its facts in a line."""
        square_mm, marker_mm = 1000 * self.square_m, 1000 * self.marker_m
        return f"{self.columns} x {self.rows} squares of {square_mm:g} mm, {self.dictionary}, markers {marker_mm:g} mm"

    def picture(self, pixels_per_mm: int = PIXELS_PER_MM) -> NDArray[np.uint8]:
        """(H, W) uint8, the board without a margin."""
        size = tuple(round(1000 * self.square_m * n * pixels_per_mm) for n in (self.columns, self.rows))
        return np.asarray(self._charuco.generateImage(size), np.uint8)

    def save_page(self, path: Path, paper: str = "a4") -> None:
        """A page at true size with the board, its facts and a ruler to check the print: .pdf or .png (508 dpi).

        Raises:
            AffordAgentError: the board does not fit on the paper, or the ending is another one.
        """
        if path.suffix.lower() not in (".pdf", ".png"):
            raise AffordAgentError(f"{path} must end with .pdf or .png")
        width_mm, height_mm = PAPERS_MM[paper]
        board_mm = 1000 * self.square_m * np.array([self.columns, self.rows])
        room_mm = np.array([width_mm, height_mm]) - [2 * _MARGIN_MM, 3.5 * _MARGIN_MM]
        if (board_mm > room_mm).any():
            raise AffordAgentError(
                f"the board is {board_mm[0]:g} x {board_mm[1]:g} mm, {paper} has room for {room_mm[0]:g} x "
                f"{room_mm[1]:g} mm: choose smaller or fewer squares, or --paper a3"
            )
        page = Image.new("L", (width_mm * PIXELS_PER_MM, height_mm * PIXELS_PER_MM), 255)
        left_mm = (width_mm - board_mm[0]) / 2
        page.paste(Image.fromarray(self.picture()), (round(left_mm * PIXELS_PER_MM), _MARGIN_MM * PIXELS_PER_MM))
        self._label(page, _MARGIN_MM + board_mm[1] + 4)
        self._name_corners(page, left_mm, left_mm + board_mm[0], board_mm[1])
        dpi = 25.4 * PIXELS_PER_MM
        if path.suffix.lower() == ".pdf":
            page.convert("1").save(path, resolution=dpi)  # two colours: compressed without loss
        else:
            page.save(path, dpi=(dpi, dpi))

    def _label(self, page: Image.Image, top_mm: float) -> None:
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(4 * PIXELS_PER_MM)
        x, y = _MARGIN_MM * PIXELS_PER_MM, round(top_mm * PIXELS_PER_MM)
        draw.text((x, y), f"affordagent ChArUco: {self.text}", 0, font)
        y += 10 * PIXELS_PER_MM
        draw.rectangle((x, y, x + _RULER_MM * PIXELS_PER_MM - 1, y + 2 * PIXELS_PER_MM), fill=0)
        text = f"{_RULER_MM} mm. Print at 100 %, measure"
        draw.text((x + (_RULER_MM + 4) * PIXELS_PER_MM, y - PIXELS_PER_MM), text, 0, font)

    def _name_corners(self, page: Image.Image, left_mm: float, right_mm: float, height_mm: float) -> None:
        """A letter beside each corner of `touch_ids`, level with it."""
        font, square_mm = ImageFont.load_default(5 * PIXELS_PER_MM), 1000 * self.square_m
        levels_mm = (_MARGIN_MM + square_mm, _MARGIN_MM + height_mm - square_mm)
        places = [(x, y) for y in levels_mm for x in (left_mm - 6, right_mm + 2)]
        for letter, (x_mm, y_mm) in zip(self.touch_ids, places, strict=True):
            place = (round(x_mm * PIXELS_PER_MM), round((y_mm - 3) * PIXELS_PER_MM))
            ImageDraw.Draw(page).text(place, letter, 0, font)

    @property
    def touch_ids(self) -> dict[str, int]:
        """The four outermost corners by the letter that is printed beside them."""
        wide, high = self.columns - 1, self.rows - 1
        return {"A": 0, "B": wide - 1, "C": wide * (high - 1), "D": wide * high - 1}

    def find(self, color: NDArray[np.uint8]) -> Sighting | None:
        """The corners in a (H, W, 3) RGB picture; None when there are too few to tell the board's pose."""
        detector = cv2.aruco.CharucoDetector(self._charuco)
        corners, ids, _, _ = detector.detectBoard(cv2.cvtColor(color, cv2.COLOR_RGB2GRAY))
        if ids is None or len(ids) < LEAST_CORNERS:
            return None
        found = Sighting(np.asarray(ids, np.int64).ravel(), np.asarray(corners, np.float64).reshape(-1, 2))
        spread = np.linalg.svd(self.corners_m[found.ids] - self.corners_m[found.ids].mean(0), compute_uv=False)
        return found if spread[1] > self.square_m / 2 else None  # corners in one row have no pose


def board_pose(points_m: Array, pixels: Array, camera: CameraIntrinsics) -> tuple[Array, float]:
    """T_camera_board by corners (n, 3) of the board seen at (n, 2) pixels, and their rms distance from it in pixels. Of
    the two poses that a plane has (Collins and Bartoli, "Infinitesimal plane-based pose estimation", 2014) the better
    one, refined."""
    K = matrix(camera)
    _, turns, shifts, errors = cv2.solvePnPGeneric(points_m, pixels, K, None, flags=cv2.SOLVEPNP_IPPE)
    best = int(np.argmin(np.ravel(errors)))
    turn, shift = cv2.solvePnPRefineLM(points_m, pixels, K, None, turns[best], shifts[best])
    T_camera_board = rigid(cv2.Rodrigues(turn)[0], shift.ravel())
    off = camera.project(transform_points(T_camera_board, points_m)) - pixels
    return T_camera_board, float(np.sqrt((off**2).sum(1).mean()))


def matrix(camera: CameraIntrinsics) -> Array:
    """(3, 3) camera matrix."""
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
