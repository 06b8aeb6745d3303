"""The prompts: texts in the files beside this one, filled in by Jinja. What a person typed goes in as data: it is never
read as a template.

The first line of a prompt is its version, for the records: {# version 1 #}. A prompt that is changed gets the next.
"""

from __future__ import annotations

import re
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


def version(name: str) -> str:
    """Which text it was, for records: "understand_command 1".

    Raises:
        ValueError: the prompt has no line with its version.
    """
    first = (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8").split("\n", 1)[0]
    match = re.fullmatch(r"\{# version (\d+) #\}", first)
    if match is None:
        raise ValueError(f"the prompt {name} does not begin with {{# version N #}}")
    return f"{name} {match[1]}"
