"""How every template of this room is read: a name that is not given is an error, not nothing."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from yxanul.report.reading.words import show

TEMPLATES = Path(__file__).parent / "templates"
"""What every page and card is made of: templates, one style, one script."""


def template_environment(*, escape: bool) -> Environment:
    """Return what renders the templates of this room; HTML needs `escape`, Markdown does not.

    Values of a run are written by the filter `show`.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["show"] = show
    return environment
