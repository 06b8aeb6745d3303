"""`affordagent eval`: evaluations that print and keep their figures."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    """Add the commands to the parser's `commands`."""
