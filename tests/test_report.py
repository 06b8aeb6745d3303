"""report.html: the destination, the way there, grasps that were not taken; what a failure means and what helps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from affordagent.agent.pictures import DESTINATION_RGB, scene_3d
from affordagent.agent.report import write_report
from affordagent.agent.session import Session
from affordagent.agent.settings import Settings
from affordagent.core.failure_guide import guide
from affordagent.core.run_store import RunStore, write_json


def test_the_report_shows_where_it_goes_and_why_better_grasps_were_not_taken(tmp_path: Path) -> None:
    with Session(Settings(scene="packing", seed=4, dry_run=True)) as session:
        result = session.run("put the screwdriver in the box", tmp_path)
    assert result.outcome == "planned"
    rejected = {"grasp_index": 1, "code": "planning.no_path", "message": "a wall is in the way"}
    write_json(tmp_path / "plan.json", json.loads((tmp_path / "plan.json").read_text()) | {"rejected": [rejected]})
    page = write_report(tmp_path).read_text()
    assert "<td>in the box</td>" in page
    assert '<code title="a wall is in the way">planning.no_path</code>' in page

    store = RunStore(tmp_path)
    picture = np.asarray(Image.open(tmp_path / "overlay.png"))
    yellow = (picture == DESTINATION_RGB).all(-1)
    box = store.get("destination").object_mask
    assert yellow.sum() > 200
    assert box[yellow].mean() > 0.4  # the outline is drawn on the border of its mask

    plan = store.get("plan")
    path = next(trace for trace in scene_3d(store).data if trace.name == "delivery")
    way = np.c_[path.x, path.y, path.z]
    assert np.linalg.norm(way - plan.delivery.T_base_tcp[:3, 3], axis=1).min() < 0.02


@pytest.mark.parametrize(("code", "explained"), [("grasp.too_wide", True), ("grasp.of_an_older_release", False)])
def test_the_report_says_what_a_failure_means(tmp_path: Path, code: str, explained: bool) -> None:
    failure = {"stage": "propose", "code": code, "message": "the part is 120 mm wide"}
    run = {"command": "pick up the box", "outcome": "failure", "query": None, "stages": [], "versions": {}}
    write_json(tmp_path / "run.json", run | {"failure": failure, "settings": Settings().model_dump(mode="json")})
    page = write_report(tmp_path).read_text()
    assert "the part is 120 mm wide" in page
    assert (guide("grasp.too_wide").meaning in page) == explained
