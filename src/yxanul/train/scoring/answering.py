"""The run's model as it is scored: by all ranks, each of which has it whole.

The one idea: the main rank scores, and its many documents and requests are answered by all ranks.
A batch then holds other rows than on one rank, which may round otherwise. Before each batch every
rank looks up: a score may take longer than a person who wants to stop, or a hang, should be given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
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


def _unheeded(may_leave: bool) -> None:
    """Nobody looks up."""


class Answering:
    """Scores documents and answers requests while it is `opened`; an `Answers` for tasks.

    It is a `Watcher` of tasks as well, which looks up between pieces that ask no model.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        processes: Processes,
        device: torch.device,
        waiting: Callable[[float], AbstractContextManager[object]] = nullcontext,
        heed: Callable[[bool], None] = _unheeded,
    ) -> None:
        """Answer with `model`; `waiting` is that of `SharedWork`.

        `heed` is called before each batch, with whether the score may be left; if so it may raise
        `StoppedOnRequest`.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._processes = processes
        self._reader: OurModel | None = None
        self._heed = heed
        self._may_leave = False
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
    def opened(self, *, may_leave: bool = False) -> Iterator[bool]:
        """Yield True on the main rank, which may ask now; others have helped, and get False.

        The weights must stay as they are meanwhile. With `may_leave` whoever asks meets
        `StoppedOnRequest` where a rank was asked to stop, which ends its part of a piece; the
        others are let go, and all can agree on it then.
        """
        self._may_leave = may_leave
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
            found = as_language_model(self._model, self._tokenizer, name="the run's model")
            self._reader = replace(found, heed=self._look_up)
        return self._reader

    def begin(self, what: str, *, total: int | None) -> None:
        """Look up where a piece of work of a task begins."""
        self._look_up()

    def advance(self, count: int) -> None:
        """Look up where some items of a task are done."""
        self._look_up()

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
        return score_documents(
            self._model, documents, token_bytes=sizes, seq_len=seq_len, heed=self._look_up
        )

    def _weigh(self, requests: Sequence[Continuations], *, batch_tokens: int) -> list[Any]:
        return OneModel(self.reader()).likelihoods(requests, batch_tokens=batch_tokens)

    def _write(self, requests: Sequence[WritingRequest], *, batch: int) -> list[Any]:
        return OneModel(self.reader()).write(requests, batch=batch)

    def _look_up(self) -> None:
        self._heed(self._may_leave)
