"""Faults on request: what goes wrong with a real controller, its link and its gripper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from affordagent.robot.emulator.controller import Controller, Safety
from affordagent.robot.emulator.robotiq import Robotiq


class Link:
    """What is wrong with the network. stalled: connections stay, nothing goes through on any port but admin's. refused:
    services that close their connections and refuse new ones. dropped: services to disconnect once."""

    def __init__(self) -> None:
        self.stalled = False
        self.refused: set[str] = set()
        self.dropped: set[str] = set()

    def mend(self) -> None:
        self.stalled = False
        self.refused.clear()


class Faults:
    """Set and cleared by admin. Faults that last go on until they are set with on = False, or all are cleared."""

    def __init__(self, controller: Controller, gripper: Robotiq, link: Link) -> None:
        self._c, self._gripper, self._link = controller, gripper, link
        self._table: dict[str, Callable[[bool, dict[str, Any]], None]] = {
            "protective_stop": lambda on, _: self._safety(Safety.PROTECTIVE_STOP, on),
            "emergency_stop": lambda on, _: self._safety(Safety.ROBOT_EMERGENCY_STOP, on),
            "safeguard_stop": lambda on, _: self._safety(Safety.SAFEGUARD_STOP, on),
            "violation": lambda on, _: self._safety(Safety.VIOLATION, on),
            "power_off": lambda on, _: self._c.power_off() if on else self._c.release_brakes(),
            "program_death": lambda on, _: self._c.stop_program("it died") if on else None,
            "link_drop": lambda on, _: self._link.dropped.add("rtde") if on else None,
            "link_refuse": lambda on, _: self._refuse("rtde", on),
            "link_stall": lambda on, _: self._stall(on),
            "gripper_jam": lambda on, _: self._jam(on),
            "gripper_drop": lambda on, _: self._refuse("robotiq", on),
            "slow": self._slow,
            "local_control": lambda on, _: self._local(on),
        }

    def set(self, name: str, on: bool, request: dict[str, Any]) -> None:
        """Raises ValueError for an unknown fault or a bad argument."""
        if name not in self._table:
            raise ValueError(f"no fault {name!r}; there are {', '.join(self._table)}")
        self._c.say(f"fault {name} {'on' if on else 'off'}")
        self._table[name](on, request)

    def clear(self) -> None:
        """Everything mended, the arm ready, no program."""
        self._link.mend()
        self._c.make_ready()
        self._gripper.jammed = False

    def _safety(self, safety: Safety, on: bool) -> None:
        if on:
            self._c.stop_for_safety(safety)
        elif self._c.safety is safety:
            self._c.end_safety_stop()

    def _refuse(self, service: str, on: bool) -> None:
        (self._link.refused.add if on else self._link.refused.discard)(service)

    def _stall(self, on: bool) -> None:
        self._link.stalled = on

    def _jam(self, on: bool) -> None:
        self._gripper.jammed = on

    def _slow(self, on: bool, request: dict[str, Any]) -> None:
        factor = float(request.get("factor", 4.0))
        if not 1 <= factor <= 100:
            raise ValueError(f"factor = {factor}, must be 1 to 100: how many times slower")
        self._c.limiter = 1.0 / factor if on else 1.0

    def _local(self, on: bool) -> None:
        """A person takes over at the pendant, which ends a program that came from elsewhere."""
        self._c.remote = not on
        if on:
            self._c.stop_program("local control")
