"""The 3D view of a run, whatever it has come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from affordagent.agent.pictures import scene_3d
from affordagent.agent.report import arm_of
from affordagent.core.run_store import RunStore

if TYPE_CHECKING:
    import plotly.graph_objects as go

HEIGHT_PX, EYE = 440, {"x": 1.0, "y": -0.83, "z": 0.83}  # so that a phone, which is narrow, shows most of the table


def figure(run: Path) -> go.Figure | None:
    """Cloud, table, grasps and the tcp's way in the base frame, of what the folder holds at this moment; None before
    anything was seen from a known place. Less than 1.5 MB as JSON."""
    store = RunStore(run)
    frame = store.readable("frame")
    start = next((event for event in store.events() if event["event"] == "start"), None)
    if frame is None or frame.T_base_camera is None or start is None:
        return None
    found = scene_3d(store, arm_of(start["settings"]))
    return found.update_layout(height=HEIGHT_PX, scene_camera_eye=EYE)
