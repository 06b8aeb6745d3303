"""Runs notebooks as a reader would: a fresh kernel of this interpreter in an empty folder, nothing of the user's own.

    python tests/notebook_runs.py [PART OF A NAME ...]     # run them, and keep their outputs in notebooks/

What is kept is small and has no path of this machine: pictures as JPEG or PNG at most WIDTH_PX wide, 3D views as a
still picture, which needs a chromium.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WORK = "work"  # the kernel's working directory
WITHIN_S = 900.0  # of wall time a notebook, whatever else the machine does
WIDTH_PX, JPEG_QUALITY = 640, 82
STILL_PX = (700, 460)
PLOTLY, PNG, JPEG = "application/vnd.plotly.v1+json", "image/png", "image/jpeg"
CHROMIUM = Path("/usr/bin/chromium")


def execute(path: Path, within_s: float = WITHIN_S) -> NotebookNode:
    """The notebook with the outputs of a fresh run.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
        TimeoutError: it took longer than `within_s` in all; the kernel has been killed.
        AssertionError: it wrote something outside the folder for temporary files.
    """
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory(prefix="nb") as folder:  # short: the kernel's sockets lie in it
        asyncio.run(_execute(notebook, Path(folder), within_s))
        left = [p.name for p in Path(folder, WORK).rglob("*")]
    assert not left, f"{path.name} left {left} in the working directory"
    return notebook


async def _execute(notebook: NotebookNode, folder: Path, within_s: float) -> None:
    own = {name: folder / name.lower() for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR")}
    work = folder / WORK
    for made in (work, *own.values()):
        made.mkdir()
    kernel = AsyncKernelManager(
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # so it is the kernel of this interpreter
        transport="ipc",  # ports that are free now may be taken when the kernel listens
        connection_file=str(folder / "kernel.json"),
    )
    client = NotebookClient(notebook, km=kernel, timeout=None, startup_timeout=within_s, record_timing=False)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(made) for name, made in own.items()}}
    running = asyncio.ensure_future(client.async_execute(cwd=str(work), env=environment))
    try:
        done, _ = await asyncio.wait({running}, timeout=within_s)  # nbclient calls a cancelled run a dead kernel
        if not done:
            raise TimeoutError(f"the notebook has not ended within {within_s:g} s")
        running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if kernel.has_kernel:
            await kernel.shutdown_kernel(now=True)


def outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def said(notebook: NotebookNode) -> str:
    """All that it printed or showed as text."""
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs(notebook)]
    shown += [output.data[kind] for output in outputs(notebook) for kind in _texts(output)]
    return "\n".join("".join(text) for text in shown)


def _texts(output: NotebookNode) -> list[str]:
    return [kind for kind in output.get("data", {}) if kind in ("text/html", "text/markdown", "image/svg+xml")]


def pictures(notebook: NotebookNode) -> list[NotebookNode]:
    """The outputs that are pictures or 3D views."""
    kinds = {PNG, JPEG, PLOTLY, "image/svg+xml"}
    return [output for output in outputs(notebook) if kinds & output.get("data", {}).keys()]


# ---- what is kept ----------------------------------------------------------------------------------------------------


def kept(notebook: NotebookNode) -> NotebookNode:
    """The notebook as it is stored: see the head of this file. The one given is changed."""
    for output in outputs(notebook):
        data = output.get("data", {})
        if PLOTLY in data:
            data[PNG] = _still(data.pop(PLOTLY))
            data.pop("text/html", None)
        if PNG in data:
            data.pop(JPEG, None)
            kind, picture = _small(base64.b64decode(data.pop(PNG)))
            data[kind] = base64.b64encode(picture).decode()
        if len(data) > 1:  # "<PIL.Image.Image ...>" says less
            data.pop("text/plain", None)
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if "outputs" in cell:
            cell.outputs = _merged(cell.outputs)
    return notebook


def _merged(found: list[NotebookNode]) -> list[NotebookNode]:
    """What was printed in pieces in one piece, however fast the kernel flushed it."""
    whole: list[NotebookNode] = []
    for output in found:
        if whole and output.output_type == "stream" and whole[-1].get("name") == output.name:
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def _small(png: bytes) -> tuple[str, bytes]:
    """Its kind and bytes: a JPEG, or a PNG of few colours where that is smaller, as of drawings."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if picture.width > WIDTH_PX:
        picture = picture.resize((WIDTH_PX, round(picture.height * WIDTH_PX / picture.width)), Image.Resampling.LANCZOS)
    jpeg, few = io.BytesIO(), io.BytesIO()
    picture.save(jpeg, "JPEG", quality=JPEG_QUALITY, optimize=True)
    picture.quantize(64).save(few, "PNG", optimize=True)
    found = {JPEG: jpeg.getvalue(), PNG: few.getvalue()}
    kind = min(found, key=lambda name: len(found[name]))
    return kind, found[kind]


def _still(figure: dict[str, Any]) -> str:
    """A plotly figure as a PNG, base64."""
    from playwright.sync_api import sync_playwright
    from plotly.io import to_html

    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder, "figure.html")
        page_file.write_text(to_html({"data": figure["data"], "layout": figure["layout"]}, validate=False))
        graphics = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *graphics])
        page = browser.new_page()
        page.goto(page_file.as_uri())
        page.wait_for_selector(".js-plotly-plot .main-svg", state="attached")
        width, height = STILL_PX
        options = json.dumps({"format": "png", "width": width, "height": figure["layout"].get("height", height)})
        uri: str = page.evaluate(f"Plotly.toImage(document.querySelector('.js-plotly-plot'), {options})")
        browser.close()
    return uri.removeprefix("data:image/png;base64,")


def main(names: list[str]) -> None:
    for path in NOTEBOOKS:
        if names and not any(name in path.name for name in names):
            continue
        start_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = execute(path)
        took_s, after = time.monotonic() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        nbformat.write(kept(ran), path)
        print(f"{path.name}: {took_s:.0f} s, {cpu_s:.0f} CPU-s, {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
