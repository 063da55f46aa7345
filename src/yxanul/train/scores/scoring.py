"""Held-out scores of the model at one step, computed once and kept per document."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yxanul.errors import NumericsError
from yxanul.evaluate.bits_per_byte import bits_per_byte
from yxanul.runfolder.scores import DomainScore, scores_at, write_score
from yxanul.train.scores.answering import Answering
from yxanul.train.updates.step import ADVICE

_PROBE_TOKENS = 256


@dataclass(frozen=True)
class HeldOut:
    """The held-out documents of one domain and the window in which they are read."""

    documents: list[np.ndarray]
    """Each (1 + tokens,) uint16, beginning with `<|endoftext|>`."""
    seq_len: int


class Scorer:
    """Scores domains and remembers the answers in RUN/scores, so that no step is scored twice."""

    def __init__(self, folder: Path, held_out: Mapping[str, HeldOut]) -> None:
        self._folder = folder
        self._held_out = held_out
        self.seconds = 0.0
        """Time spent scoring in this process."""

    @property
    def domains(self) -> tuple[str, ...]:
        """All domains that can be scored, in the order of the stages."""
        return tuple(self._held_out)

    @property
    def documents(self) -> dict[str, int]:
        """{domain: held-out documents that it is scored by}."""
        return {domain: len(held.documents) for domain, held in self._held_out.items()}

    def probe(self) -> np.ndarray:
        """Return one window of held-out text, (1 + at most 256 tokens,), always the same."""
        first = next(iter(self._held_out.values()))
        return first.documents[0][: min(_PROBE_TOKENS, first.seq_len) + 1]

    def score(
        self,
        answering: Answering,
        *,
        step: int,
        branch: Mapping[int, float],
        domains: Sequence[str],
    ) -> dict[str, float]:
        """Return {domain: bits per byte} of the run's model at `step`, lower is better.

        branch {attempt: last step of it that counts} is `runfolder.lineage.current_branch`: what
        any of its attempts scored at this step is not scored again.
        """
        known = scores_at(self._folder, step, branch=branch)
        attempt = max(branch)
        return {
            d: known[d].bpb if d in known else self._score_domain(answering, d, at=(step, attempt))
            for d in domains
        }

    def _score_domain(self, answering: Answering, domain: str, *, at: tuple[int, int]) -> float:
        begin = time.perf_counter()
        held_out = self._held_out[domain]
        scores = answering.documents(held_out.documents, seq_len=held_out.seq_len)
        self.seconds += time.perf_counter() - begin
        bpb = bits_per_byte(scores)
        step, attempt = at
        if not math.isfinite(bpb):
            raise NumericsError(
                f"the score of {domain} at step {step} is not finite, so the weights are not; go "
                f"on from an older checkpoint with a lower learning rate: {ADVICE}"
            )
        record = DomainScore(
            step=step,
            attempt=attempt,
            domain=domain,
            bpb=bpb,
            nats=[score.nats for score in scores],
            bytes=[score.bytes for score in scores],
            tokens=[score.tokens for score in scores],
        )
        write_score(self._folder, record)
        return bpb
