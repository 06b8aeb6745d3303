"""report.html: one self-contained page a run, made from the run folder alone."""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from affordagent.agent.pictures import overlay, save_overlay, scene_3d
from affordagent.core.errors import AffordAgentError
from affordagent.core.failure_guide import guides
from affordagent.core.run_store import RunStore
from affordagent.robot.arms import ArmName
from affordagent.robot.ur5.recovery import steps_after

VIDEO = "motion.mp4"


def write_report(folder: Path) -> Path:
    """Write FOLDER/report.html and return its path.

    Raises:
        AffordAgentError: the folder holds no finished run.
    """
    if not (folder / "run.json").is_file():
        raise AffordAgentError(f"{folder} holds no run.json: give the folder of a finished run")
    run = json.loads((folder / "run.json").read_text())
    store = RunStore(folder)
    picture = save_overlay(folder)
    stages = [event for event in store.events() if event["event"] == "stage"]
    page = _template().render(
        run=run,
        steps=steps_after(run["failure"]["code"]) if run["failure"] and _is_real(run["settings"]) else (),
        guide=guides().get(run["failure"]["code"]) if run["failure"] else None,
        stages=stages,
        longest_s=max((s["duration_s"] for s in stages), default=1.0) or 1.0,
        total_s=sum(s["duration_s"] for s in stages),
        overlay=_data_uri(picture, "image/png"),
        video=_data_uri(folder / VIDEO, "video/mp4"),
        view_3d=_view_3d(store, arm_of(run["settings"])),
        part=_json(folder / "part_mask.json"),
        answers=_answers(store),
        decision=_decision(stages),
        grasps=store.get("grasps")[0][:10] if store.has("grasps") else [],
        plan=_json(folder / "plan.json"),
        rejected=_rejected(folder),
        verdict=_json(folder / "verdict.json"),
    )
    path = folder / "report.html"
    path.write_text(page)
    return path


def _answers(store: RunStore) -> list[dict[str, str]]:
    """Each tool's mask on the image, where two were asked: name, tool, picture."""
    if not store.has("second_answer") and not store.has("first_answer"):
        return []
    found = []
    for name in ("first", "second"):
        if store.has(f"{name}_answer"):
            part = store.get(f"{name}_answer")
            picture = store.folder / f"{name}_overlay.png"
            overlay(store.get("frame"), store.get("table"), part).save(picture)
            found.append({"name": name, "tool": part.tool, "picture": _data_uri(picture, "image/png") or ""})
    return found


def _decision(stages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The evidence of the second grounding, None where there was none."""
    records = [s["evidence"] for s in stages if s["stage"] == "ground" and "decision" in s["evidence"]]
    return records[-1] if records else None


def _rejected(folder: Path) -> dict[int, dict[str, Any]]:
    """Why better grasps were not taken, by their place in the order."""
    plan = _json(folder / "plan.json")
    return {r["grasp_index"]: r for r in plan["rejected"]} if plan else {}


def _template() -> jinja2.Template:
    source = resources.files("affordagent.agent").joinpath("report.html").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(source)


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _data_uri(path: Path | None, kind: str) -> str | None:
    if path is None or not path.is_file():
        return None
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _is_real(settings: dict[str, Any]) -> bool:
    return settings["cell"].startswith("ur5:")


def arm_of(settings: dict[str, Any]) -> ArmName:
    """`Settings.arm_model`, of runs of older releases too, whose settings lack much."""
    return settings["ur5"]["model"] if _is_real(settings) else "UR5e"


def _view_3d(store: RunStore, arm: ArmName) -> str | None:
    """The plotly view as HTML with its script inside, so that the page works without a network."""
    if not store.has("frame") or store.get("frame").T_base_camera is None:
        return None
    return scene_3d(store, arm).to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
