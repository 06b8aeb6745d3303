"""Grasps that another program made, read from graspnetAPI's `.npy`: filtered by the part and refined as others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import PartCloud, RgbdFrame
from affordagent.tools.grasping.antipodal import Candidates
from affordagent.tools.grasping.completion import Surface
from affordagent.tools.grasping.file_format import read_rows, tip_poses
from affordagent.tools.grasping.gripper import ParallelGripper
from affordagent.tools.grasping.refine import refine


class NpyBackend:
    """The grasps of a file, which is read anew for each picture: (N, 17) rows in the frame of that picture's camera."""

    name = "npy"

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> None:
        """Look at the file.

        Raises:
            AffordAgentError: it is missing or of another form.
        """
        self._rows()

    def candidates(
        self,
        frame: RgbdFrame | None,
        cloud: PartCloud,
        part: Surface,
        gripper: ParallelGripper,
        rng: np.random.Generator,
    ) -> Candidates:
        """See `backends.Backend`."""
        if frame is None or frame.T_base_camera is None:
            raise StageFailure("propose", "tool.unavailable", f"{self.path} needs the frame and its T_base_camera")
        try:
            rows = self._rows()
        except AffordAgentError as error:
            raise StageFailure("propose", "tool.unavailable", str(error)) from error
        T_base_tip = frame.T_base_camera @ tip_poses(rows)
        return refine(T_base_tip, part, gripper, cloud.table_z_m, self.name, len(rows))

    def _rows(self) -> Array:
        try:
            return read_rows(self.path)
        except (OSError, ValueError) as error:
            raise AffordAgentError(f"cannot read the grasps {self.path}: {error}") from error
