"""`affordagent data` and `affordagent train-vlm`: data sets of the published layout, and training on them."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    """Add the commands to the parser's `commands`."""
