"""When what happened in a run: stages as spans of time, from the events of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore
from affordagent.robot.arms import ArmName


@dataclass(frozen=True)
class Span:
    """A stage, in seconds since the run began. record: its line of events.jsonl."""

    stage: str
    from_s: float
    to_s: float
    record: dict[str, Any]


@dataclass(frozen=True)
class Clock:
    """When what happened in a run: from its events."""

    began: datetime
    command: str
    cell: str  # its kind
    arm: ArmName
    spans: tuple[Span, ...]
    end: dict[str, Any] | None

    @staticmethod
    def of(store: RunStore) -> Clock:
        """Raises:
        AffordAgentError: the folder holds no run.
        """
        events = store.events()
        start = next((e for e in events if e["event"] == "start"), None)
        if start is None:
            raise AffordAgentError(f"{store.folder} holds no run: its events.jsonl is missing, or has no start")
        began = datetime.fromisoformat(start["time"])
        settings = start["settings"]
        cell = settings["cell"].partition(":")[0]
        spans = []
        for record in (e for e in events if e["event"] == "stage"):
            to_s = (datetime.fromisoformat(record["time"]) - began).total_seconds()
            spans.append(Span(record["stage"], max(0.0, to_s - record["duration_s"]), to_s, record))
        end = next((e for e in reversed(events) if e["event"] == "end"), None)
        arm: ArmName = settings["ur5"]["model"] if cell == "ur5" else "UR5e"
        return Clock(began, start["command"], cell, arm, tuple(spans), end)

    def after(self, stage: str) -> float:
        """When the last stage of that name ended; for one that never did, when the run ended."""
        ends = [span.to_s for span in self.spans if span.stage == stage]
        return ends[-1] if ends else self.to_s

    @property
    def to_s(self) -> float:
        """When the last stage ended, or the run."""
        return max((span.to_s for span in self.spans), default=0.0) if self.end is None else self.at(self.end["time"])

    def at(self, moment: str) -> float:
        return (datetime.fromisoformat(moment) - self.began).total_seconds()
