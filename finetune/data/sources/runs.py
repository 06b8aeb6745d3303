"""Finished runs, simulated or real, as rows: what succeeded gives its mask, what failed becomes a hard example.

Layout: core/run_store.py, and `annotation.json` and `true_mask.png` of `affordagent annotate` (128 the right thing, 255
its part). In this order:

- A person painted the mask: that is the label, whatever came of the run.
- A person said that the right thing is not in the picture: a row that asks for what is not there.
- The job was done, by the simulator, by the sensors or by a person's word: the run's own mask is the label.
- Anything else: unlabelled. `failure` says what went wrong: the run's code, or a person's word for it.

A plain RGB-D picture, PREFIX_color.png with PREFIX_camera.json, that no run came of is an unlabelled row too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.sources.found import (
    Found,
    Take,
    attempt,
    camera_json,
    inside,
    object_of,
    part_of,
    provenance,
    read_json,
    text_of,
)
from affordagent.finetune.data.table import load_labels

COLOR, CAMERA, DEPTH = "_color.png", "_camera.json", "_depth.png"
NOT_OF_A_ROW = ("after",)  # pictures that a run takes when the thing is gone from its place
PART = 255  # in true_mask.png; the rest of the thing is 128
MAX_BYTES = 1 << 22


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each run and each plain RGB-D picture in the folder and below it.

    Raises:
        AffordAgentError: there is no such folder.
    """
    if not folder.is_dir():
        raise AffordAgentError(f"{folder} is not a folder")
    for parent, below, files in os.walk(folder):
        below.sort()
        place = Path(parent).relative_to(folder)
        for prefix in sorted(name.removesuffix(CAMERA) for name in files if name.endswith(CAMERA)):
            if prefix not in NOT_OF_A_ROW:
                is_run = prefix == "frame"
                source_id = place.as_posix() if is_run and place.parts else (place / prefix).as_posix()
                yield attempt(source_id, _row, folder, place, prefix, source_id, take)


def _row(root: Path, place: Path, prefix: str, source_id: str, take: Take) -> Sample:
    camera = object_of(read_json(inside(root, place / f"{prefix}{CAMERA}"), MAX_BYTES), "the camera")
    source = text_of(camera.get("source", ""))
    simulated = source.startswith("sim")
    depth = place / f"{prefix}{DEPTH}"
    picture = Sample(
        image=str(inside(root, place / f"{prefix}{COLOR}")),
        text="",
        source="sim_run" if simulated else "run",
        split="train",
        depth=str(inside(root, depth)) if (root / depth).exists() else None,
        depth_unit_m=float(camera["depth_unit_m"]) if (root / depth).exists() else None,
        camera=camera_json(camera["fx"], camera["fy"], camera["cx"], camera["cy"], (camera["height"], camera["width"])),
        source_id=source_id,
        group=f"run/{source if simulated and source != 'sim' else source_id}",
        licence="MIT" if simulated else take.licence,
        provenance=provenance(run=source_id, camera=source, stamp_s=camera.get("stamp_s")),
        status="unlabelled",
    )
    if prefix != "frame" or not (root / place / "run.json").exists():
        return picture
    return _of_run(picture, root, place)


def _of_run(picture: Sample, root: Path, place: Path) -> Sample:
    def content(name: str) -> dict[str, Any]:
        there = (root / place / name).exists()
        return object_of(read_json(inside(root, place / name), MAX_BYTES), name) if there else {}

    run, said, tool = content("run.json"), content("annotation.json"), content("part_mask.json")
    query = object_of(run.get("query") or {}, "the query")
    category = text_of(said.get("thing") or query.get("category") or query.get("object_words") or "") or None
    part = text_of(said.get("part") or query.get("part") or "") or part_of(category)
    asked = replace(
        picture,
        text=text_of(run.get("command") or query.get("text") or ""),
        kind="template" if query.get("object_words") else "hard",
        category=category,
        part=part,
        failure=None if _done(run, said) else _why(run, said),
        confidence=float(tool["confidence"]) if "confidence" in tool else None,
        checks=_agreement(root, place),
    )
    if (root / place / "true_mask.png").exists():
        painted = str(inside(root, place / "true_mask.png"))
        whole = replace(asked, object_mask=painted)
        return _labelled(whole, painted, PART, "person", "a person painted it", 1.0)
    if said.get("absent") is True:
        return replace(asked, status="labelled", tool="person", tool_reason="a person saw that it is not there")
    if not _done(run, said) or not (root / place / "mask.png").exists():
        return asked
    mask, whole_mask = (str(inside(root, place / name)) for name in ("mask.png", "object_mask.png"))
    by = "a person" if said.get("outcome") == "success" else text_of(content("verdict.json").get("by", "the run"))
    reason = f"the trial with it succeeded, by the word of {by}"
    found = replace(asked, object_mask=whole_mask)
    return _labelled(found, mask, None, text_of(tool.get("tool", "run")), reason, float(tool["confidence"]))


def _agreement(root: Path, place: Path) -> str | None:
    """`Sample.checks` with the overlap (IoU) of the two tools' masks, where a second one was asked."""
    names = [place / f"{which}_mask.png" for which in ("first", "second")]
    if not all((root / name).exists() for name in names):
        return None
    first, second = (load_labels(str(inside(root, name))) > 127 for name in names)
    union = int((first | second).sum())
    return json.dumps({"agreement": round(int((first & second).sum()) / union, 3) if union else 1.0})


def _labelled(row: Sample, mask: str, label: int | None, tool: str, reason: str, confidence: float) -> Sample:
    return replace(
        row, mask=mask, mask_label=label, status="labelled", tool=tool, tool_reason=reason, confidence=confidence
    )


def _done(run: dict[str, Any], said: dict[str, Any]) -> bool:
    """A person's word counts more than the run's own outcome."""
    return (said.get("outcome") or run.get("outcome")) == "success"


def _why(run: dict[str, Any], said: dict[str, Any]) -> str | None:
    if said.get("kind"):
        return f"person.{text_of(said['kind'])}"
    failure = run.get("failure")
    if isinstance(failure, dict) and failure.get("code"):
        return text_of(failure["code"])
    return text_of(run.get("outcome") or "") or None
