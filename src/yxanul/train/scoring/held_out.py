"""Held-out scores of the model at one step, computed once and kept per document."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yxanul.errors import NumericsError
from yxanul.evaluate.bits_per_byte import bits_per_byte
from yxanul.runfolder.scores import DomainScore, scores_at, write_score
from yxanul.train.scoring.answering import Answering
from yxanul.train.updates.step import ADVICE

_PROBE_TOKENS = 256


@dataclass(frozen=True)
class HeldOut:
    """The held-out documents of one domain and the window in which they are read."""

    documents: list[np.ndarray]
    """Each (1 + tokens,) uint16, beginning with `<|endoftext|>`."""
    seq_len: int

    @property
    def sha256(self) -> str:
        """The hash of the documents' tokens."""
        return hashlib.sha256(np.concatenate(self.documents).astype("<u2").tobytes()).hexdigest()

    def has(self, score: DomainScore) -> bool:
        """Tell whether a score is of these documents."""
        if score.text_sha256 is None:
            return score.tokens == [len(document) - 1 for document in self.documents]
        return score.text_sha256 == self.sha256


class Scorer:
    """Scores domains; RUN/scores keeps the answers: no documents are scored twice at a step."""

    def __init__(
        self, folder: Path, held_out: Mapping[str, HeldOut], *, say: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._held_out = held_out
        self._say = say
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

    def outdated(self, step: int, *, branch: Mapping[int, float]) -> tuple[str, ...]:
        """Return the domains whose score at `step`, as `score` finds it, is of other documents."""
        found = scores_at(self._folder, step, branch=branch)
        return tuple(
            d for d, held in self._held_out.items() if d in found and not held.has(found[d])
        )

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
        any of its attempts scored at this step is not scored again, unless its documents were
        others: those of a stage that nothing was read of may be prepared anew.
        """
        found = scores_at(self._folder, step, branch=branch)
        attempt = max(branch)
        bpb = {}
        for domain in domains:
            known = found.get(domain)
            if known is not None and not self._held_out[domain].has(known):
                self._say(f"{domain} is scored again at step {step}: its documents are others now")
                known = None
            bpb[domain] = (
                self._score_domain(answering, domain, at=(step, attempt))
                if known is None
                else known.bpb
            )
        return bpb

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
            text_sha256=held_out.sha256,
        )
        write_score(self._folder, record)
        return bpb
