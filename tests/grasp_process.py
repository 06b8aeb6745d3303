"""A run or a resume in a process of its own, for tests that kill or interrupt it: words and mask are given.

    python tests/grasp_process.py run|resume FOLDER SETTINGS_JSON [--die-in STAGE]

Prints each stage as it starts, and at the end the result as JSON; leaves with its exit code.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from affordagent.agent.session import Session
from affordagent.agent.settings import Settings
from affordagent.evaluations.kill_moments import GivenTools
from affordagent.evaluations.runner.truth import TrueTools
from affordagent.robot.sim.cell import SimCell


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("run", "resume"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings")
    parser.add_argument("--die-in", default="")
    args = parser.parse_args()

    def on_stage(stage: str) -> None:
        print(stage, flush=True)
        if stage == args.die_in:
            os.kill(os.getpid(), signal.SIGKILL)

    session = Session(Settings.model_validate_json(args.settings), GivenTools(folder=args.folder.parent))
    if isinstance(session.cell, SimCell):
        target = next(o.name for o in session.cell.scene.objects if o.category == "hammer")
        session.tools = TrueTools(cell=session.cell, target=target)
    with session:
        if args.what == "run":
            result = session.run("the hammer", args.folder, on_stage=on_stage, ask=lambda question: True)
        else:
            result = session.resume(args.folder, on_stage=on_stage, ask=lambda question: True, say=print)
    print(json.dumps(result.as_json()), flush=True)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
