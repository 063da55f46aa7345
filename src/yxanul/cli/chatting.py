"""How `generate --chat` shows a trace: as it was trained, borders and all, dimmed on a terminal."""

import os
import sys
from collections.abc import Iterator

from yxanul.evaluate.answers.chat import Borders, ChatForm

_DIM, _PLAIN = "\033[2m", "\033[0m"


class TraceView:
    """Prints one text of a form, piece by piece as it comes."""

    def __init__(self, form: ChatForm) -> None:
        self._borders = Borders(form)
        self._dims = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        # Shown with the first piece: a question may yet be refused.
        self._opening = form.opening.lstrip()

    def push(self, piece: str) -> None:
        """Print what is certain now."""
        for text, is_answer in self._borders.push(piece):
            self._show(text, is_answer=is_answer)

    def finish(self) -> None:
        """Print the rest, and end the line."""
        text, is_answer = self._borders.finish()
        self._show(f"{text}\n", is_answer=is_answer)

    def _show(self, text: str, *, is_answer: bool) -> None:
        text, self._opening = self._opening + text, ""
        dimmed = self._dims and text and not is_answer
        print(f"{_DIM}{text}{_PLAIN}" if dimmed else text, end="", flush=True)


def ask_questions() -> Iterator[str]:
    """Yield what a person types, a line each, until the end of input (Ctrl-D)."""
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline().decode("utf-8", errors="replace")
        if not line:
            print(file=sys.stderr)
            return
        if line.strip():
            yield line.rstrip("\r\n")
