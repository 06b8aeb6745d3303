"""What came of one command, and how it is written down."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from affordagent.agent.settings import Settings
from affordagent.core.errors import StageFailure
from affordagent.core.run_store import RunStore, write_json
from affordagent.core.types import OutcomeName

RESULT_FILE = "run.json"  # there once the run has ended
STOPPED = "execution.stopped"
EXIT_CODES: dict[OutcomeName, int] = {
    "success": 0,
    "planned": 0,
    "failure": 1,
    "refused": 3,
    "needs_clarification": 4,
}  # 2 is bad usage
EXIT_STOPPED = 130
PACKAGES = ("affordagent", "mujoco", "torch", "transformers", "langgraph", "numpy")


@dataclass(frozen=True)
class RunResult:
    """What came of one command."""

    outcome: OutcomeName
    query: dict[str, Any] | None
    stages: list[dict[str, Any]]
    failure: dict[str, Any] | None
    run_dir: Path

    @property
    def exit_code(self) -> int:
        stopped = self.failure is not None and self.failure["code"] == STOPPED
        return EXIT_STOPPED if stopped else EXIT_CODES[self.outcome]

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        keys = ("stage", "status", "code", "duration_s", "message")
        return {
            "outcome": self.outcome,
            "query": self.query,
            "stages": [{k: s[k] for k in keys} for s in self.stages],
            "failure": self.failure,
            "run_dir": str(self.run_dir),
        }


def write_result(store: RunStore, command: str, settings: Settings, state: Mapping[str, Any]) -> RunResult:
    """End the run: `state` holds outcome, stages and failure. run.json comes last: once it is there, all is."""
    result = result_of(store, state)
    store.event("end", outcome=result.outcome, failure=result.failure)
    record = {
        "command": command,
        **result.as_json(),
        "settings": settings.model_dump(mode="json"),
        "versions": versions(),
    }
    write_json(store.folder / RESULT_FILE, {k: v for k, v in record.items() if k != "run_dir"})  # a folder may be moved
    return result


def result_of(store: RunStore, state: Mapping[str, Any]) -> RunResult:
    query = store.get("query").model_dump() if store.has("query") else None
    stages, failure = state.get("stages", []), state.get("failure")
    return RunResult(state["outcome"], query, stages, failure, store.folder.resolve())


def fields_of(failure: StageFailure) -> dict[str, str]:
    """`failure` of a result."""
    return {"stage": failure.stage, "code": failure.code, "message": failure.message}


@cache
def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on; read once in a process."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
