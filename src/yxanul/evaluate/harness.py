"""Any model of ours, driven by lm-evaluation-harness: its tasks, our likelihoods and writing.

The package is an optional extra, so its base class is known only inside `harness_model`.
"""

from collections.abc import Sequence
from typing import Any

from yxanul.errors import MissingExtraError, UsageError
from yxanul.evaluate.answers.likelihood import likelihoods, score_pairs
from yxanul.evaluate.answers.pairs import rolling_pairs
from yxanul.evaluate.answers.requests import Continuations, WritingRequest
from yxanul.evaluate.answers.writing import write
from yxanul.evaluate.models.language_model import LanguageModel

# lm-evaluation-harness' own default.
_MAX_NEW_TOKENS = 256


def harness_model(model: LanguageModel, *, batch: int = 32, batch_tokens: int = 4096) -> Any:
    """Return an `lm_eval.api.model.LM` that answers with `model`, for `lm_eval.simple_evaluate`.

    At most `batch` texts are written at once, at most `batch_tokens` tokens scored. Writing that
    is not greedy is a `UsageError`; without the package this is a `MissingExtraError`.
    """
    try:
        from lm_eval.api.model import LM
    except ImportError as error:
        raise MissingExtraError(
            'lm-evaluation-harness is not installed: pip install "yxanul[eval]"'
        ) from error

    class HarnessModel(LM):  # type: ignore[misc, unused-ignore]
        """Answers requests, each an object whose `args` say what is asked."""

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            asked = [Continuations(r.args[0], (r.args[1],)) for r in requests]
            found = likelihoods(model, asked, batch_tokens=batch_tokens)
            return [(-one.nats, one.is_greedy) for (one,) in found]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            pairs = rolling_pairs(model, [r.args[0] for r in requests])
            found = score_pairs(model, pairs, owners=len(requests), batch_tokens=batch_tokens)
            return [-one.nats for one in found]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return write(model, [writing_request(*r.args) for r in requests], batch=batch)

    return HarnessModel()


def writing_request(prompt: str, options: dict[str, Any]) -> WritingRequest:
    """Return what a task's `generation_kwargs` ask for; other than greedy is a `UsageError`."""
    allowed = {
        "until": (),
        "max_gen_toks": _MAX_NEW_TOKENS,
        "do_sample": False,
        "temperature": 0.0,
    }
    given: dict[str, Any] = allowed | options
    wrong = [
        f"{name}={value}"
        for name, value in given.items()
        if name not in allowed or (value and name in ("do_sample", "temperature"))
    ]
    if wrong:
        raise UsageError(
            f"the task asks for {', '.join(wrong)} in its generation_kwargs: texts are written "
            "greedily here, with until and max_gen_toks alone"
        )
    until = given["until"]
    stop_texts = (until,) if isinstance(until, str) else tuple(until or ())
    return WritingRequest(prompt, stop_texts, int(given["max_gen_toks"]))
