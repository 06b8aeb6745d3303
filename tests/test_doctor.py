"""`affordagent doctor`: what it says of a real arm's needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from affordagent.agent import doctor
from affordagent.agent.doctor import Finding


def _real_arm(folder: Path, monkeypatch: pytest.MonkeyPatch, settings: str) -> dict[str, Finding]:
    (folder / "affordagent.toml").write_text(settings)
    monkeypatch.chdir(folder)
    return {finding.what: finding for finding in doctor._real_arm()}


def test_without_a_real_arm_nothing_of_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _real_arm(tmp_path, monkeypatch, 'cell = "sim"\n')
    assert set(found) == {"ur_rtde", "pyrealsense2", "calibration"}
    assert all(finding.optional for finding in found.values())


def test_a_real_arm_with_a_realsense_needs_all_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = 'cell = "ur5:192.168.1.102"\n[camera]\nsource = "realsense"\ncalibration = "nowhere.json"\n'
    found = _real_arm(tmp_path, monkeypatch, settings)
    assert not any(finding.optional for finding in found.values())
    assert "affordagent[ur5]" in found["ur_rtde"].mend
    assert "affordagent[realsense]" in found["pyrealsense2"].mend
    assert not found["calibration"].ok
    assert "nowhere.json does not exist" in found["calibration"].detail


def test_wrong_settings_are_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _real_arm(tmp_path, monkeypatch, "[ur5]\ngriper = 1\n")
    assert not found["settings"].ok
    assert "griper" in found["settings"].detail


def _grasps(folder: Path, monkeypatch: pytest.MonkeyPatch, grasps: str) -> Finding:
    (folder / "affordagent.toml").write_text(f'grasps = "{grasps}"\n')
    monkeypatch.chdir(folder)
    return {finding.what: finding for finding in doctor._grasps()}["setting grasps"]


def test_the_grasp_backend_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _grasps(tmp_path, monkeypatch, "antipodal").ok
    for spec, found in (("contact-graspnet:none.pth", "none.pth"), ("magic", "unknown grasp backend 'magic'")):
        finding = _grasps(tmp_path, monkeypatch, spec)
        assert not finding.ok
        assert found in finding.detail
        assert "graspgen:tcp://HOST:PORT" in finding.mend


def test_which_second_opinions_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AFFORDAGENT_LLM_KEY", "sk-secret-of-a-test")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "affordagent.toml").write_text('fallback = "grounded-sam2:dino.pth,sam2.1_hiera_tiny.pt"\n')
    found = {finding.what: finding for finding in doctor._second_opinions()}
    assert not found["setting fallback"].ok
    assert "dino.pth, sam2.1_hiera_tiny.pt" in found["setting fallback"].detail
    for name in ("dino.pth", "sam2.1_hiera_tiny.pt"):
        (tmp_path / name).touch()
    assert next(f for f in doctor._second_opinions() if f.what == "setting fallback").ok
    assert found["fallback florence2"].optional
    assert found["fallback florence2"].mend == "hf download florence-community/Florence-2-base"
    assert "hf download facebook/sam2.1-hiera-tiny" in found["fallback grounded-sam2"].mend
    assert "AFFORDAGENT_LLM_KEY set" in found["fallback pointing"].detail
    assert not any("sk-secret" in str(finding.as_json()) for finding in found.values())
    (tmp_path / "affordagent.toml").write_text('fallback = "guessing"\nvlm = "florence2:none"\n')
    assert "pointing:URL,MODEL" in doctor._second_opinions()[0].detail
    assert "not here: none" in doctor._grounder().detail
