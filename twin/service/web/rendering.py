"""How a template of this house is read: everything escaped, nothing left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twin.service.web.field import label

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    """Return a new environment over the page's templates.

    What is written into a template is escaped, and a name it does not know is an
    error: ``jinja2.UndefinedError``.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["label"] = label
    return made
