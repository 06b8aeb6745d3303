"""`affordagent vlm` and `affordagent serve-vlm`: an AffordanceVLM in the published format, asked or served."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    """Add the commands to the parser's `commands`."""
