"""The prompts: texts in the files beside this one, filled in by Jinja. What a person typed goes in as data: it is never
read as a template."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_prompts = Environment(
    loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=False, trim_blocks=True
)


def render(name: str, **fields: object) -> str:
    """The text of `<name>.md` with its {{ fields }} filled in.

    Raises:
        jinja2.TemplateNotFound: there is no such prompt.
        jinja2.UndefinedError: a field that it names was not given.
    """
    return _prompts.get_template(f"{name}.md").render(**fields)
