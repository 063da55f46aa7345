r"""Make a text fit for training without judging it.

The one idea: only what no reader would miss goes: carriage returns, control characters, halves of
surrogate pairs, white space around the text. Wording, case, indentation and Unicode form stay.
Judgement (too short, wrong language, lists) belongs to a source, not here.
"""

from __future__ import annotations

import re

# Vertical tab, form feed and NEL end a line in many old files; the Unicode separators U+2028 and
# U+2029 are left alone, since JSON and JavaScript source use them with meaning.
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85]")
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
_TRAILING = re.compile("(?<![ \t])[ \t]+(?=\n)")
# A look that most texts need no more than, several times as fast as the patterns above.
_ASCII_CONTROLS = bytes(code for code in [*range(32), 127] if chr(code) not in "\t\n")
_RARE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
# A text with more than 1 % replacement characters was decoded with the wrong encoding. Our choice.
_MOST_REPLACEMENTS = 0.01


def clean(text: str) -> str:
    r"""Return the text as it will be tokenised; cleaning twice changes nothing more.

    Line ends become `\n`, other control characters, byte-order marks and lone surrogates go,
    spaces before a line end go, and blank lines before and white space after the text go.
    """
    if _holds_rare(text):
        text = _UNWANTED.sub("", _LINE_ENDS.sub("\n", text))
    if " \n" in text or "\t\n" in text:
        text = _TRAILING.sub("", text)
    return text.lstrip("\n").rstrip()


def _holds_rare(text: str) -> bool:
    if text.isascii():
        content = text.encode()
        return len(content.translate(None, _ASCII_CONTROLS)) < len(content)
    return _RARE.search(text) is not None


def has_half_characters(text: str) -> bool:
    """Tell whether a text has lone surrogates, which are no text: UTF-8 has no bytes for them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def reason_to_drop(text: str) -> str | None:
    """Return why a cleaned text is unusable: `empty` or `undecodable`; None = keep it."""
    if not text:
        return "empty"
    if text.count(_REPLACEMENT) > _MOST_REPLACEMENTS * len(text):
        return "undecodable"
    return None
