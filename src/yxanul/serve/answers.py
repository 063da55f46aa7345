"""What is answered, in the form of OpenAI's completions: whole, or a chunk at a time."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from yxanul.data.tokenizer import Tokenizer
from yxanul.serve.choices import Piece, ScoredToken
from yxanul.serve.requests import CompletionRequest


@dataclass
class Answer:
    """The answer to one request, which grows with its pieces."""

    name: str
    """`cmpl-...`, the same in every chunk."""
    model: str
    created: int
    asked: CompletionRequest
    tokenizer: Tokenizer
    _tokens: dict[int, int] = field(default_factory=dict)

    def whole(self, pieces: Iterable[tuple[int, Piece]]) -> dict[str, Any]:
        """Return the answer that all pieces make together."""
        texts: dict[int, list[Piece]] = {}
        for number, piece in pieces:
            texts.setdefault(number, []).append(piece)
            self._tokens[number] = piece.tokens
        choices = [
            self._choice(
                number,
                text="".join(piece.text for piece in parts),
                scored=[one for piece in parts for one in piece.scored],
                ended=parts[-1].ended,
            )
            for number, parts in sorted(texts.items())
        ]
        return {**self._head(), "choices": choices, "usage": self._usage()}

    def chunk(self, number: int, piece: Piece) -> dict[str, Any]:
        """Return one chunk of a stream."""
        self._tokens[number] = piece.tokens
        choice = self._choice(number, text=piece.text, scored=piece.scored, ended=piece.ended)
        usage = {"usage": None} if self.asked.include_usage else {}
        return {**self._head(), "choices": [choice], **usage}

    def last_chunk(self) -> dict[str, Any]:
        """Return the chunk that tells the usage."""
        return {**self._head(), "choices": [], "usage": self._usage()}

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
        }

    def _choice(
        self, number: int, *, text: str, scored: Sequence[ScoredToken], ended: str | None
    ) -> dict[str, Any]:
        wanted = self.asked.logprobs is not None
        return {
            "index": number,
            "text": text,
            "logprobs": self._logprobs(scored) if wanted else None,
            "finish_reason": ended,
        }

    def _logprobs(self, scored: Sequence[ScoredToken]) -> dict[str, Any]:
        return {
            "tokens": [self._token(one.token) for one in scored],
            "token_logprobs": [one.logprob for one in scored],
            "top_logprobs": [self._likeliest(one) for one in scored]
            if self.asked.logprobs
            else None,
            "text_offset": [one.offset for one in scored],
        }

    def _likeliest(self, one: ScoredToken) -> dict[str, float] | None:
        if one.logprob is None:
            return None
        # The token itself is always among them, as in OpenAI's answers.
        likeliest = [*one.likeliest, (one.token, one.logprob)]
        return {self._token(token): logprob for token, logprob in likeliest}

    def _token(self, token: int) -> str:
        content = self.tokenizer.decode_bytes([token])
        try:
            return content.decode()
        except UnicodeDecodeError:  # a part of a character
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)

    def _usage(self) -> dict[str, int]:
        prompt = sum(len(one.ids) for one in self.asked.prompts)
        written = sum(self._tokens.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
        }


def server_sent(value: dict[str, Any]) -> bytes:
    """Return an event of a stream."""
    return b"data: " + as_bytes(value) + b"\n\n"


def as_bytes(value: dict[str, Any]) -> bytes:
    """Return JSON; a text may hold any character but half of one."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
