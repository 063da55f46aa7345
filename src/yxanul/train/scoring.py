"""Held-out scores of the model at one step, computed once and kept per document."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yxanul.data.tokenizer import Tokenizer
from yxanul.errors import CorruptDataError, NumericsError
from yxanul.evaluate.bits_per_byte import DocumentScore, bits_per_byte, score_documents
from yxanul.model.transformer import Transformer
from yxanul.runfolder.durable import write_json
from yxanul.train.step import ADVICE


@dataclass(frozen=True)
class HeldOut:
    """The held-out documents of one domain and the window in which they are read."""

    documents: list[np.ndarray]
    """Each (1 + tokens,) uint16, beginning with `<|endoftext|>`."""
    seq_len: int


class Scorer:
    """Scores domains and remembers the answers in RUN/scores, so that no step is scored twice."""

    def __init__(
        self, folder: Path, held_out: Mapping[str, HeldOut], *, tokenizer: Tokenizer
    ) -> None:
        self._folder = folder
        self._held_out = held_out
        self._token_bytes = tokenizer.token_bytes
        self.seconds = 0.0
        """Time spent scoring in this process."""

    @property
    def domains(self) -> tuple[str, ...]:
        """All domains that can be scored, in the order of the stages."""
        return tuple(self._held_out)

    def score(
        self, model: Transformer, *, step: int, attempt: int, domains: Sequence[str]
    ) -> dict[str, float]:
        """Return {domain: bits per byte} of the model at `step`, lower is better."""
        return {d: self._score_domain(model, step=step, attempt=attempt, domain=d) for d in domains}

    def stored(self, step: int, *, branch: Mapping[int, float]) -> dict[str, float]:
        """Return the scores that the run's branch took at `step`, which may be none.

        branch {attempt: last step of it that counts} is `runfolder.lineage.current_branch`.
        """
        found: dict[str, float] = {}
        for attempt in [attempt for attempt, last in branch.items() if step <= last]:
            paths = {d: self._path(step=step, attempt=attempt, domain=d) for d in self._held_out}
            taken = {d: _read_bpb(path) for d, path in paths.items() if path.exists()}
            found = {**taken, **found}
        return found

    def forget_after(self, *, step: int, attempt: int) -> None:
        """Delete scores of later steps: the run went back, and they will be taken again."""
        for path in self._folder.glob(f"step-*-a{attempt}-*.json"):
            if int(path.name.split("-")[1]) > step:
                path.unlink()

    def _score_domain(self, model: Transformer, *, step: int, attempt: int, domain: str) -> float:
        path = self._path(step=step, attempt=attempt, domain=domain)
        if path.exists():
            return _read_bpb(path)
        begin = time.perf_counter()
        held_out = self._held_out[domain]
        scores = score_documents(
            model,
            held_out.documents,
            token_bytes=self._token_bytes,
            seq_len=held_out.seq_len,
        )
        self.seconds += time.perf_counter() - begin
        if not math.isfinite(bits_per_byte(scores)):
            raise NumericsError(
                f"the score of {domain} at step {step} is not finite, so the weights are not; go "
                f"on from an older checkpoint with a lower learning rate: {ADVICE}"
            )
        write_json(path, _record(step, attempt, domain=domain, scores=scores))
        return bits_per_byte(scores)

    def _path(self, *, step: int, attempt: int, domain: str) -> Path:
        return self._folder / f"step-{step:08d}-a{attempt}-{domain}.json"


def _record(
    step: int, attempt: int, *, domain: str, scores: Sequence[DocumentScore]
) -> dict[str, object]:
    return {
        "step": step,
        "attempt": attempt,
        "domain": domain,
        "bpb": bits_per_byte(scores),
        "nats": [score.nats for score in scores],
        "bytes": [score.bytes for score in scores],
        "tokens": [score.tokens for score in scores],
    }


def _read_bpb(path: Path) -> float:
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["bpb"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptDataError(
            f"{path} is not a score file; delete it, and it is computed again"
        ) from error
