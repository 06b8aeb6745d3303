"""Masks by people in a browser: the keyboard and a brush, a reload in the middle, saved and the next row."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import uvicorn
from web_service import browser

from affordagent.agent.person.answers import AnswerFile, read_answers
from affordagent.agent.person.helping import Helper
from affordagent.agent.person.page import create_app
from affordagent.agent.person.tasks import tasks_of
from affordagent.agent.serve_vlm import bound_socket
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import write_parquet

SIZE = (120, 160)
WAIT_MS = 60_000
TOKEN = "t" * 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two rows without a mask; the second begins with a refused one."""
    picture = np.full((*SIZE, 3), 200, np.uint8)
    cv2.circle(picture, (60, 60), 30, (40, 60, 180), -1)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    refused = np.zeros(SIZE, bool)
    refused[40:80, 40:80] = True
    first = Sample(
        str(tmp_path / "a.png"), "Where <i>to</i> hold it?", category="mug", status="unlabelled", confidence=0.1
    )
    checks = json.dumps({"refused_rle": encode_rle(refused)})
    second = Sample(str(tmp_path / "a.png"), "It?", category="pan", status="unlabelled", confidence=0.5, checks=checks)
    write_parquet([first, second], tmp_path / "rows.parquet")
    return tmp_path


@pytest.fixture
def link(folder: Path) -> Iterator[str]:
    kept = AnswerFile(folder, "ann")
    app = create_app(tasks_of(folder), kept, Helper(), TOKEN)
    with bound_socket("127.0.0.1", 0) as listener:
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/#{TOKEN}"
        finally:
            server.should_exit = True
            thread.join(60)
            kept.close()


def mask_area(page: Any) -> int:
    """Pixels of the draft."""
    drafts = page.evaluate("() => Object.values(localStorage).map((text) => JSON.parse(text).counts)")
    return sum(sum(counts[1::2]) for counts in drafts)


def test_paint_reload_save_and_next(folder: Path, link: str) -> None:
    first, second = (task.key for task in tasks_of(folder))
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 390, "height": 844})  # type: ignore[attr-defined]
        page.set_default_timeout(WAIT_MS)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(link)
        page.wait_for_selector(f"canvas[data-row='{first}']")
        assert page.inner_text("#text") == "Where <i>to</i> hold it?"
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")

        page.focus("#canvas")
        page.keyboard.press("b")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        page.wait_for_selector("#undo:enabled")
        dab = mask_area(page)
        assert dab > 200  # a brush of radius 10
        box = page.locator("#canvas").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.2, steps=4)
        page.mouse.up()
        painted = mask_area(page)
        assert painted > dab + 500
        page.keyboard.press("z")
        assert mask_area(page) == dab
        page.keyboard.press("y")
        assert mask_area(page) == painted

        page.reload()
        page.wait_for_selector(f"canvas[data-row='{first}']")
        page.wait_for_selector("#save:enabled")
        assert "your draft" in page.inner_text("#state")
        page.focus("#canvas")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"canvas[data-row='{second}']")
        kept = read_answers(folder)["ann"][first].mask()
        assert kept is not None
        assert int(kept.sum()) == painted
        assert mask_area(page) == 0

        page.keyboard.press("a")
        page.mouse.click(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.5)
        page.wait_for_selector("#undo:enabled")
        page.keyboard.press("n")
        page.wait_for_selector("#done:has-text('2 of 2')")
        assert read_answers(folder)["ann"][second].said == "absent"
        assert not problems
        page.close()
