"""Where `generate` gets its prompts: a word of the command line, standard input, a file."""

import json
import sys
from pathlib import Path

from yxanul.data.treating.clean import has_half_characters
from yxanul.errors import UsageError


def standard_input() -> str:
    """Return all of standard input; a byte that is no text becomes half a character."""
    return sys.stdin.buffer.read().decode("utf-8", errors="surrogateescape")


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a file: of a .jsonl each object's "prompt", of a .txt each line.

    Empty lines of a .jsonl are passed over; one of a .txt is an empty prompt. A `UsageError` names
    what cannot be read, with its line.
    """
    if path.suffix not in {".jsonl", ".txt"}:
        raise UsageError(
            f'--prompts {path}: name a .jsonl (an object {{"prompt": ...}} per line) or a .txt (a '
            "prompt per line)"
        )
    try:
        # Not read_text: it takes a carriage return within a prompt for the end of a line.
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"--prompts {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--prompts {path} is not UTF-8 text; write it in UTF-8") from error
    # Not splitlines: a prompt may hold other characters that it counts as ends of a line.
    lines = text.removesuffix("\n").split("\n") if text else []
    if path.suffix == ".txt":
        prompts = [line.removesuffix("\r") for line in lines]
    else:
        prompts = [
            _prompt_of(line, f"--prompts {path}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    if not prompts:
        raise UsageError(f"--prompts {path} has no prompt")
    return prompts


def refuse_half_characters(*texts: str) -> None:
    """Refuse bytes that are not UTF-8: Python reads them as lone surrogates."""
    for text in texts:
        if has_half_characters(text):
            raise UsageError("a prompt or --stop is not UTF-8 text; write it in UTF-8")


def _prompt_of(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}") from error
    prompt = value.get("prompt") if isinstance(value, dict) else None
    if not isinstance(prompt, str):
        raise UsageError(f'{where} is no object with a text under "prompt"')
    return prompt
