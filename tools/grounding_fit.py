"""What was fitted for the second opinion, and how: limits of the mask checks, calibration of the confidences.

Written by `affordagent eval fallback --fit`, read by `mask_checks` and `calibration`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FIT = Path(__file__).with_name("grounding_fit.json")


@cache
def fitted() -> dict[str, Any]:
    """The whole artefact: "limits", "alone", "together", and "made": by what command, from which scenes."""
    return json.loads(FIT.read_text(encoding="utf-8"))
