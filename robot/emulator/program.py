"""What runs on the controller: a main program and threads, as generators that yield where URScript calls `sync()`."""

from __future__ import annotations

from affordagent.robot.emulator.motion import Steps

MAIN = "main"


class Program:
    """Named generators, stepped once a tick: threads first, in the order they were started, then the main program."""

    def __init__(self) -> None:
        self._running: dict[str, Steps] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._running

    def start(self, name: str, steps: Steps) -> None:
        """Replaces one of the same name."""
        self.kill(name)
        self._running[name] = steps

    def kill(self, name: str) -> bool:
        """Was there one?"""
        steps = self._running.pop(name, None)
        if steps is not None:
            steps.close()
        return steps is not None

    def kill_all(self) -> None:
        for name in list(self._running):
            self.kill(name)

    @property
    def threads(self) -> list[str]:
        return [name for name in self._running if name != MAIN]

    def step(self) -> bool:
        """One tick of all. False when the main program has come to its end in it.

        Raises:
            ScriptError: a run-time error in any of them.
        """
        for name in [*self.threads, *([MAIN] if MAIN in self else [])]:
            steps = self._running.get(name)
            if steps is None:  # killed by one before it
                continue
            try:
                next(steps)
            except StopIteration:
                if self._running.get(name) is steps:
                    del self._running[name]
                if name == MAIN:
                    return False
        return True
