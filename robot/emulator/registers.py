"""The general purpose registers of RTDE, and when each input was last written."""

from __future__ import annotations

COUNT = 48


class Registers:
    def __init__(self) -> None:
        self.in_int, self.in_double = [0] * COUNT, [0.0] * COUNT
        self.out_int, self.out_double = [0] * COUNT, [0.0] * COUNT
        self.written_s: dict[str, float] = {}

    def write(self, name: str, value: float, t: float) -> None:
        """An input of that RTDE name arrived at controller time `t`; names of other inputs only leave their time."""
        self.written_s[name] = t
        kind, _, number = name.rpartition("_")
        if kind == "input_int_register":
            self.in_int[int(number)] = int(value)
        elif kind == "input_double_register":
            self.in_double[int(number)] = value
