"""A row becomes text by its template; what a single row lacks drops it, with the reason."""

import pytest

from yxanul.config.schema import SourceConfig
from yxanul.data.sources.hub.template import Template, UnfitRow
from yxanul.errors import ConfigError

CHAT = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
ROW = {"title": "T", "text": "x", "answer": 42, "messages": CHAT, "none": None}


def template(text: str) -> Template:
    settings = {"name": "far", "domain": "words", "weight": 1.0, "hub_id": "some/set"}
    return Template(SourceConfig.model_validate({**settings, "text_template": text}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{text}", "x"),
        ("{title}\n\n{messages}", "T\n\nUser: Why?\n\nAssistant: So."),
        ("{messages[0][content]}\n\n{messages[1][content]}", "Why?\n\nSo."),
        ("{text}\n\n#### {answer:>4}", "x\n\n####   42"),
        (" {{braces}} {text} ", "{braces} x"),
    ],
)
def test_columns_chats_and_single_turns_become_text(text: str, expected: str) -> None:
    assert template(text).fill(ROW) == expected


@pytest.mark.parametrize(
    ("text", "row", "reason"),
    [
        ("{none}", ROW, "none is null"),
        ("{messages[2][content]}", ROW, r"messages has no \[2\]\[content\]"),
        ("{messages[1][content]}", {"messages": [CHAT[0], {"content": None}]}, "is null"),
        ("{messages[0][content]}", {"messages": 7}, r"messages has no \[0\]\[content\]"),
        ("{messages}", {"messages": ["a", "b"]}, "messages is not a chat"),
        ("{messages}", {"messages": {"role": "user"}}, "messages is not text"),
        ("{text}", {"text": b"raw"}, "text is not text"),
        ("{text:d}", {"text": "word"}, "text is not written as 'd'"),
    ],
)
def test_a_row_without_its_text_is_unfit_with_the_reason(text: str, row: dict, reason: str) -> None:
    with pytest.raises(UnfitRow, match=reason):
        template(text).fill(row)


def test_a_column_that_the_set_lacks_is_the_recipes_mistake() -> None:
    with pytest.raises(ConfigError, match=r"no column body, only title, text, answer.*some|body"):
        template("{body}").fill(ROW)
    with pytest.raises(ConfigError, match="is no format string"):
        template("{text")
