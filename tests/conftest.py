"""Shared by all tests: one thread, and where the development data is when it is there."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")

from pathlib import Path

import pytest
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background inherits them ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

settings.register_profile(
    "any machine",
    deadline=None,  # how long an example takes depends on what else runs
    derandomize="CI" in os.environ,  # the same commit, the same verdict; everywhere else the search goes on
)
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_frames() -> Path:
    """Folder of real RGB-D frames; the test is skipped where it is not there."""
    folder = SHARED_DATA / "real_rgbd"
    if not folder.is_dir():
        pytest.skip("the real RGB-D frames are not on this machine (../shared/data/real_rgbd)")
    return folder


@pytest.fixture(scope="session")
def loopback() -> str:
    """A loopback address of this process's own: the ports of a controller are fixed, so its address must differ."""
    return _address(1)


@pytest.fixture(scope="session")
def second_loopback() -> str:
    """For a test with an emulator of its own beside the one at `loopback`."""
    return _address(128)


def _address(first: int) -> str:
    pid = os.getpid()
    return f"127.{first + (pid >> 16)}.{pid >> 8 & 255}.{1 + (pid & 255) % 254}"
