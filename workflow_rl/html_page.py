"""Pages that are one file each: a template, with its style and its script, filled in.

A page called `name` is made of `name.html.jinja`, `name.css` and `name.js`, data files of the package that
shows it. Whatever is filled in is escaped; the template places `style` and `script` as they are.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2


def render_page(package: str, name: str, **values: Any) -> str:
    """Fill in a page.

    Args:
        package: that its files belong to.
        name: of the page.
        values: that the template asks for, beside `style` and `script`.

    Returns:
        HTML.
    """
    files = resources.files(package)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files.joinpath(f"{name}.html.jinja").read_text("utf-8"))
    style, script = (files.joinpath(f"{name}.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return template.render(style=style, script=script, **values)
