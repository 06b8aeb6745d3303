"""The rules of the house: imports go one way, everything is packaged, frames have one spelling."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ["core", "finetune", "robot", "tools", "graphs", "agent", "evaluations"]
MAY_SEE = {room: {"prompts", *ORDER[: i + 1]} for i, room in enumerate(ORDER)} | {
    "core": {"core"},
    "finetune": {"core", "finetune"},
    "robot": {"core", "robot"},
    "prompts": {"prompts"},
}
SOURCES = sorted(p for room in MAY_SEE for p in (ROOT / room).rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {n.split(".")[1] for n in names if n.startswith("affordagent.")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    if path.parent.name == "agent" and path.name.startswith("cli"):
        return  # the command line puts all rooms together
    assert imported_rooms(path) <= MAY_SEE[room]


def test_every_folder_is_packaged():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {p.parent.relative_to(ROOT) for p in SOURCES}
    expected = {".".join(["affordagent", *folder.parts]): str(folder) for folder in folders}
    assert set(config["packages"]) == set(expected)
    assert config["package-dir"] == expected


def test_data_files_are_packaged():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    matched = {f for name, globs in patterns.items() for g in globs for f in (ROOT / name.split(".")[1]).glob(g)}
    data = [p for room in MAY_SEE for p in (ROOT / room).rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert not [str(p.relative_to(ROOT)) for p in data if p not in matched]


def test_transforms_are_spelled_one_way():
    pattern = re.compile(r"\b\w+(?:_to_|2)\w*_(?:transform|pose|tf)\b|\bT_[a-z]+2[a-z]+\b")
    assert not [f"{p}: {m}" for p in SOURCES for m in pattern.findall(p.read_text())]


def test_no_wide_files():
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 450}
    assert not long
