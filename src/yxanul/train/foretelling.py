"""What the gates of a run will not be able to tell, said before the first step is paid for."""

from __future__ import annotations

from collections.abc import Iterator

from yxanul.curriculum.bootstrap import FEWEST_DOCUMENTS
from yxanul.curriculum.noise import FEWEST_SCORES
from yxanul.curriculum.stages import noise_steps
from yxanul.train.session import Session


def unprovable(session: Session) -> Iterator[str]:
    """Yield a sentence for every domain of which no gate will be able to judge anything.

    And one for the stages whose bounds will hold nothing of the noise of training.
    """
    for domain, documents in session.scorer.documents.items():
        if documents < FEWEST_DOCUMENTS:
            yield (
                f"{domain} has {documents} held-out documents, fewer than {FEWEST_DOCUMENTS}, "
                "which prove nothing: no gate will judge whether it was learned or kept; prepare "
                "more text, or prepare it anew with a larger data.validation_fraction"
            )
    short = [
        plan.name
        for plan in session.active
        if plan.config.gate.training_noise is None and len(noise_steps(plan)) < FEWEST_SCORES
    ]
    if short:
        yield (
            f"{', '.join(short)}: fewer than {FEWEST_SCORES} scores before the end, so that the "
            "noise of training is not known and the gate's bounds hold the documents' alone; lower "
            "evaluation.every_fraction, or measure gate.training_noise"
        )
