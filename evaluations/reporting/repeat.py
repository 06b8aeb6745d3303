"""The command line that makes an evaluation again, from its evaluation.json."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from affordagent.agent.cli_eval_suites import SUITES


def command_of(header: Mapping[str, Any]) -> str | None:
    """As one types it; None where the header is not one of `affordagent eval SUITE`."""
    if header.get("suite") not in SUITES or not isinstance(header.get("asked"), dict):
        return None
    words = ["affordagent", "eval", header["suite"], *_options(header)]
    return shlex.join([*words, "--limit", str(header["trials"]), "--out", "OUT"])


def _options(header: Mapping[str, Any]) -> Iterator[str]:
    asked, own = header["asked"], SUITES[header["suite"]].own
    if asked.get("commands"):
        yield asked["commands"].split(" sha256:")[0]
    for name in ("rounds", "first_seed", "repeats", "masks"):
        yield from (f"--{name.replace('_', '-')}", str(asked[name]))
    if asked["noise"]:
        yield "--noise"
    if "styles" in own:
        yield from ("--styles", *asked["styles"])
    if "scene" in own:
        yield from ("--scene", *asked["scenes"])
    if "things" in own:
        yield from ("--things", str(asked["things"]))
    if "sigmas" in own:
        yield from ("--sigmas", *(f"{1e3 * sigma_m:g}" for sigma_m in asked["sigmas_m"]))
    for name, changes in header["settings"].items():
        if changes:
            yield from ("--setting", f"{name}:{','.join(_changes(changes))}")


def _changes(changes: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """key=value, as `cli_eval_suites.read_setting` reads them."""
    for name, value in changes.items():
        if isinstance(value, dict):
            yield from _changes(value, f"{path}{name}.")
        else:
            yield f"{path}{name}={value if isinstance(value, str) else json.dumps(value)}"
