"""Pictures as files that Gradio serves as they are: each is written once, however many browsers ask for it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Hashable
from pathlib import Path

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

KEPT = 60  # files; an older one may still be on its way to a page
QUALITY = 88  # of JPEG


class PictureFiles:
    """`files.of(key, make)`: the file of the picture that `make` gives for a key. (Gradio itself would write it anew
    for each browser into one file, and serve it half written.)"""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="affordagent-web-"))
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        gr.set_static_paths([self._folder])
        self._lock = threading.Lock()
        self._files: dict[Hashable, str | None] = {}
        self._written = 0

    def of(self, key: Hashable, make: Callable[[], NDArray[np.uint8] | None]) -> str | None:
        """Path of a JPEG; None where there is no picture."""
        with self._lock:
            if key not in self._files:
                self._files[key] = self._write(make())
                if len(self._files) > KEPT:
                    old = self._files.pop(next(iter(self._files)))
                    if old is not None:
                        os.unlink(old)
            return self._files[key]

    def _write(self, picture: NDArray[np.uint8] | None) -> str | None:
        if picture is None:
            return None
        self._written += 1
        path = self._folder / f"{self._written}.jpg"
        Image.fromarray(picture).save(path, quality=QUALITY)
        return str(path)
