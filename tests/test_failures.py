"""Every failure code in the source is explained in docs/failures.md, and none is explained that cannot happen."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
GROUPS = "language|camera|grounding|depth|calibration|grasp|planning|execution|safety|verify|scene|tool|internal"


def test_the_codes_are_the_documented_ones():
    pattern = re.compile(rf'"((?:{GROUPS})\.[a-z_]+)"')
    rooms = ("agent", "core", "graphs", "robot", "tools")
    used = {c for room in rooms for p in (ROOT / room).rglob("*.py") for c in pattern.findall(p.read_text())}
    used -= {c for c in used if c.endswith((".json", ".png"))}
    documented = set(re.findall(rf"`((?:{GROUPS})\.[a-z_]+)`", (ROOT / "docs" / "failures.md").read_text()))
    assert used == documented
