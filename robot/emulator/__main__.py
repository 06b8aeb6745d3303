"""`python -m affordagent.robot.emulator`."""

from __future__ import annotations

import argparse
import sys

from affordagent.core.errors import AffordAgentError
from affordagent.robot.emulator.command import add_arguments, serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m affordagent.robot.emulator", description="A UR on loopback.")
    add_arguments(parser)
    try:
        return serve(parser.parse_args())
    except AffordAgentError as error:
        print(f"emulator: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
