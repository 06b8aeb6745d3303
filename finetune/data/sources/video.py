"""Single frames of MP4 files, by ffmpeg in a process of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg

from affordagent.core.errors import AffordAgentError

TIMEOUT_S = 120.0
# A video from outside must not make ffmpeg open other files or addresses: this container, and this file alone.
_SAFE = ("-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-f", "mov")


def frame_png(file: Path, at_s: float) -> bytes:
    """The first frame at or after `at_s` seconds, as PNG.

    Raises:
        AffordAgentError: no MP4 that can be read, no frame there, or it takes too long.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *_SAFE, "-ss", f"{at_s:.6f}", "-i", f"file:{file.resolve()}"]
    command += ["-map", "0:v:0", "-frames:v", "1", "-c:v", "png", "-f", "image2pipe", "-"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired as error:
        raise AffordAgentError(f"{file.name}: no frame within {TIMEOUT_S:.0f} s") from error
    if not done.stdout:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = words[-1].replace(str(file.resolve()), file.name)[:200] if words else "the video is shorter"
        raise AffordAgentError(f"{file.name}: no frame at {at_s:.3f} s: {why}")
    return done.stdout
