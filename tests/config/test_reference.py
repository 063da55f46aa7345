"""docs/config.md is what the fields say, and names every key once."""

from pathlib import Path

from yxanul.config.problems import key_paths
from yxanul.config.reference import reference
from yxanul.config.schema import RunConfig

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_every_field_has_a_description_that_explains_null():
    for path, info in key_paths(RunConfig):
        assert info.description, path
        if "None" in str(info.annotation):
            assert "null" in info.description, path


def test_every_key_is_on_the_page():
    page = reference()
    for path, _ in key_paths(RunConfig):
        assert path[-1] in page, path
