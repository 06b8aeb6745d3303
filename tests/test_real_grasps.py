"""Grasps on the recorded frames, and their pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from affordagent.agent.pictures import grasps_on_image
from affordagent.core.errors import AffordAgentError
from affordagent.evaluations.real_grasps import LEAST, VIEW_PX, frames


def test_enough_grasps_on_every_recorded_thing(real_frames: Path) -> None:
    found = list(frames(real_frames))
    assert len(found) == 4
    for one in found:
        assert len(one.free) >= LEAST, one.name
        assert len(one.grasps) >= 5
        assert one.picture().size == VIEW_PX
        picture = np.asarray(grasps_on_image(one.frame, one.part, one.grasps))
        changed = (picture != one.frame.color).any(axis=2)
        assert changed[~one.part.object_mask].sum() > 200  # grippers reach out of the mask
        centres = one.grasps.T_base_tcp[:, :3, 3]
        low, high = one.cloud.part.min(0) - 0.02, one.cloud.part.max(0) + 0.02
        assert ((centres > low) & (centres < high)).all(axis=1).mean() > 0.9


def test_a_folder_without_frames_is_named(tmp_path: Path) -> None:
    with pytest.raises(AffordAgentError, match=str(tmp_path)):
        list(frames(tmp_path))
