"""A program for torchrun's ranks: yxanul, whose rank 1 never ends its part of the third score."""

import itertools
import os
import time

from yxanul.cli.main import main
from yxanul.train import answering

score = answering.score_documents
calls = itertools.count(1)


def score_or_hang(*args, **options):
    """Score as ever; on rank 1, one call never ends."""
    if os.environ["RANK"] == "1" and next(calls) == 3:
        time.sleep(600)
    return score(*args, **options)


answering.score_documents = score_or_hang
main()
