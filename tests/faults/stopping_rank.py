"""A program for torchrun's ranks: yxanul, whose rank 1 alone is asked to stop, in a score."""

import itertools
import os
import signal

from yxanul.cli.main import main
from yxanul.train.scoring import answering

score = answering.score_documents
calls = itertools.count(1)


def score_or_stop(*args, **options):
    """Score as ever; on rank 1, the second part meets SIGTERM."""
    if os.environ["RANK"] == "1" and next(calls) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return score(*args, **options)


answering.score_documents = score_or_stop
main()
