"""`affordagent data browse`: rows with their pictures and masks, filtered, in a page of this machine's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.card import thumbnail
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import load_image, load_mask

FILTERS = ("source", "split", "kind", "tool", "status", "category")
ALL = "all"
PAGE_ROWS = 24
SHOWN_PX = 480


@dataclass(frozen=True)
class Page:
    """rows: index and row of those on this page; found: how many fit the filters; pages: how many pages that is."""

    rows: tuple[tuple[int, Sample], ...]
    found: int
    pages: int


class Browser:
    """Rows, and those of them that fit some filters."""

    def __init__(self, rows: Sequence[Sample]) -> None:
        self.rows = rows

    def choices(self, column: str) -> list[str]:
        return [ALL, *sorted({str(getattr(row, column)) for row in self.rows})]

    def page(self, wanted: dict[str, str], words: str, number: int) -> Page:
        """wanted: column -> its value, or ALL. words: all of them are in the row's text, answer, id or failure."""
        fits = [(i, row) for i, row in enumerate(self.rows) if _fits(row, wanted, words.lower().split())]
        pages = max(1, -(-len(fits) // PAGE_ROWS))
        start = (min(max(number, 1), pages) - 1) * PAGE_ROWS
        return Page(tuple(fits[start : start + PAGE_ROWS]), len(fits), pages)


def _fits(row: Sample, wanted: dict[str, str], words: list[str]) -> bool:
    if any(value not in (ALL, str(getattr(row, column))) for column, value in wanted.items()):
        return False
    said = " ".join(filter(None, (row.text, row.answer, row.source_id, row.failure))).lower()
    return all(word in said for word in words)


def picture_of(row: Sample) -> Image.Image:
    """The picture with the mask painted in; a grey one where the files cannot be read."""
    try:
        picture = load_image(row)
        code = thumbnail(picture, load_mask(row, picture.shape), SHOWN_PX)
    except AffordAgentError:
        return Image.new("RGB", (SHOWN_PX, SHOWN_PX * 3 // 4), "grey")
    return Image.open(BytesIO(code))


def serve(rows: Sequence[Sample], name: str, port: int) -> None:
    """Serve the page on loopback until Ctrl-C; port 0: one that is free."""
    blocks = build(Browser(rows), name)
    _, url, _ = blocks.launch(
        server_name="127.0.0.1",
        server_port=port or None,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"]),  # of the machine: none is fetched
    )
    print(f"{len(rows)} rows on {url}; Ctrl-C stops", flush=True)
    blocks.block_thread()


def build(browser: Browser, name: str) -> Any:
    """The page, as gradio.Blocks."""
    with gr.Blocks(title=f"Rows of {name}", analytics_enabled=False) as blocks:
        gr.Markdown(f"### Rows of `{Path(name).name}`")
        with gr.Row():
            filters: list[Any] = [gr.Dropdown(browser.choices(c), value=ALL, label=c, min_width=120) for c in FILTERS]
        with gr.Row():
            words = gr.Textbox(label="words in the text, the answer or the id", scale=3)
            number = gr.Number(1, label="page", precision=0, minimum=1)
        told = gr.Markdown()
        gallery = gr.Gallery(columns=4, height="auto", object_fit="contain", label="rows", allow_preview=False)
        detail = gr.JSON(label="the row that was clicked")
        shown = gr.State([])

        def look(*given: Any) -> tuple[list[tuple[Image.Image, str]], str, list[int]]:
            page = browser.page(dict(zip(FILTERS, given, strict=False)), str(given[-2] or ""), int(given[-1] or 1))
            pictures = [(picture_of(row), f"{i}: {row.text[:120]}") for i, row in page.rows]
            return pictures, f"{page.found} rows on {page.pages} pages", [i for i, _ in page.rows]

        def clicked(on_page: list[int], event: gr.SelectData) -> dict[str, Any]:
            return {k: v for k, v in asdict(browser.rows[on_page[event.index]]).items() if v is not None}

        inputs, outputs = [*filters, words, number], [gallery, told, shown]
        for control in (*filters, words, number):
            control.change(look, inputs, outputs, show_progress="hidden")
        gallery.select(clicked, [shown], [detail])
        blocks.load(look, inputs, outputs)
    return blocks
