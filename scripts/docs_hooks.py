"""What mkdocs.yml cannot say: files from outside of docs/, lists of pages, and the graph as a picture.

See https://www.mkdocs.org/user-guide/configuration/#hooks and https://www.mkdocs.org/dev-guide/plugins/#events.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {  # of the repository -> of the site
    "CHANGELOG.md": "changelog.md",
    "finetune/checkpoints/mini/MODEL_CARD.md": "model_card_mini.md",
    "finetune/checkpoints/objectness/MODEL_CARD.md": "model_card_objectness.md",
}
DOWNLOADS = {str(p.relative_to(ROOT)): str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("notebooks/*.ipynb"))}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
GRAPH = re.compile(r"<!-- graph -->.*<!-- /graph -->", re.DOTALL)  # drawn by mermaid, which comes from a CDN
GRAPH_PICTURE = "![The graph: stages, decisions and ends](images/pipeline.svg)"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The notes on decisions, by number; and pages that mkdocs.yml does not name yet, so that none is lost."""
    docs, sections = Path(config.docs_dir), {name: part for entry in config.nav for name, part in entry.items()}
    sections["Decisions"] += [{_title(p): f"decisions/{p.name}"} for p in sorted((docs / "decisions").glob("*.md"))]
    named = str(config.nav)
    more = [{_title(page): page.name} for page in sorted(docs.glob("*.md")) if f"'{page.name}'" not in named]
    if more:
        sections["How-tos"].append({"More": more})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_relinked(text, posixpath.dirname(source))))
    for source, download in DOWNLOADS.items():
        files.append(File.generated(config, download, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    if page.parent is None:  # one of a kind: no list of neighbours beside it
        page.meta["hide"] = ["navigation", "toc"] if page.is_homepage else ["navigation"]
    if page.file.generated_by is None:
        markdown = _relinked(markdown, posixpath.join("docs", posixpath.dirname(page.file.src_uri)))
    return GRAPH.sub(GRAPH_PICTURE, markdown)


def _relinked(markdown: str, folder: str) -> str:
    """Links from a file in this folder of the repository, made to fit the site: those to docs/ stay, those to other
    files lead to what the site has of them, else only their words stay."""

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        place = posixpath.normpath(posixpath.join(folder, target))
        if folder.startswith("docs") and place.startswith("docs/"):
            return found[0]
        here = posixpath.relpath(folder, "docs") if folder.startswith("docs") else "."
        page = (PAGES | DOWNLOADS).get(place) or (place.removeprefix("docs/") if place.startswith("docs/") else None)
        return f"[{words}]({posixpath.relpath(page, here)}{anchor})" if page else words

    return LINK.sub(link, markdown)


def _title(page: Path) -> str:
    """ "0025 A language model's answer is data", from the first line."""
    return page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
