"""The run's model as it is scored: by all ranks, each of which has it whole.

The one idea: the main rank scores, and its many documents and requests are answered by all ranks.
A batch then holds other rows than on one rank, which may round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from yxanul.data.tokenizer import Tokenizer
from yxanul.evaluate.answers.answering import OneModel
from yxanul.evaluate.answers.requests import Continuations, Likelihood, WritingRequest
from yxanul.evaluate.bits_per_byte import DocumentScore, score_documents
from yxanul.evaluate.models.ours import OurModel, as_language_model
from yxanul.model.transformer import Transformer
from yxanul.parallel.processes import Processes
from yxanul.parallel.sharing import Job, SharedWork


class Answering:
    """Scores documents and answers requests while it is `opened`; an `Answers` for tasks."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        processes: Processes,
        device: torch.device,
        waiting: Callable[[float], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Answer with `model`; `waiting` is that of `SharedWork`."""
        self._model = model
        self._tokenizer = tokenizer
        self._processes = processes
        self._reader: OurModel | None = None
        jobs: dict[str, Job] = {
            "documents": self._score,
            "likelihoods": self._weigh,
            "texts": self._write,
        }
        self._work = SharedWork(jobs, processes, device, waiting)

    @property
    def copies(self) -> int:
        """Ranks that answer."""
        return self._processes.world_size

    @contextmanager
    def opened(self) -> Iterator[bool]:
        """Yield True on the main rank, which may ask now; others have helped, and get False.

        The weights must stay as they are meanwhile.
        """
        try:
            if not self._processes.is_main:
                self._work.help()
                yield False
                return
            try:
                yield True
            finally:
                self._work.done()
        finally:
            self._reader = None  # of these weights

    def reader(self) -> OurModel:
        """Return the model as tasks read it, with the weights of now."""
        if self._reader is None:
            self._reader = as_language_model(self._model, self._tokenizer, name="the run's model")
        return self._reader

    def documents(self, documents: Sequence[np.ndarray], *, seq_len: int) -> list[DocumentScore]:
        """Return what each document costs, as `score_documents` does."""
        return self._work.do("documents", documents, seq_len=seq_len)

    def likelihoods(
        self, requests: Sequence[Continuations], *, batch_tokens: int
    ) -> list[tuple[Likelihood, ...]]:
        """Return for each request a likelihood per text."""
        return self._work.do("likelihoods", requests, batch_tokens=batch_tokens)

    def write(self, requests: Sequence[WritingRequest], *, batch: int) -> list[str]:
        """Return what the model writes after each prompt."""
        return self._work.do("texts", requests, batch=batch)

    def _score(self, documents: Sequence[np.ndarray], *, seq_len: int) -> list[Any]:
        sizes = self._tokenizer.token_bytes
        return score_documents(self._model, documents, token_bytes=sizes, seq_len=seq_len)

    def _weigh(self, requests: Sequence[Continuations], *, batch_tokens: int) -> list[Any]:
        return OneModel(self.reader()).likelihoods(requests, batch_tokens=batch_tokens)

    def _write(self, requests: Sequence[WritingRequest], *, batch: int) -> list[Any]:
        return OneModel(self.reader()).write(requests, batch=batch)
