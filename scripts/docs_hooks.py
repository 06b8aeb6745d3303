"""What mkdocs.yml cannot say: pages from outside of docs/, lists of pages, and the graph as a picture.

See https://www.mkdocs.org/user-guide/configuration/#hooks and https://www.mkdocs.org/dev-guide/plugins/#events.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

OUTSIDE = {  # file of the repository -> page of the site
    "CHANGELOG.md": "changelog.md",
    "finetune/checkpoints/mini/MODEL_CARD.md": "model_card_mini.md",
    "finetune/checkpoints/objectness/MODEL_CARD.md": "model_card_objectness.md",
}
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
    root = Path(config.config_file_path).parent
    for source, page in OUTSIDE.items():
        text = re.sub(r"\]\((?!https?:|#)[^)]*\)", "]", (root / source).read_text(encoding="utf-8"))  # its own links
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    for source, page in OUTSIDE.items():
        markdown = markdown.replace(f"](../{source})", f"]({page})")
    return GRAPH.sub(GRAPH_PICTURE, markdown)


def _title(page: Path) -> str:
    """ "0025 A language model's answer is data", from the first line."""
    return page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
