"""A program for torchrun's ranks: yxanul, whose rank 1 never ends its part of what HANGS says.

HANGS=score: of the third score. HANGS=weights: of the first comparison of weights, which its own
watchdog does not see.
"""

import itertools
import os
import time

from yxanul.cli.main import main
from yxanul.train.running import session
from yxanul.train.safety.watchdog import Watchdog
from yxanul.train.scoring import answering

score = answering.score_documents
calls = itertools.count(1)


def score_or_hang(*args, **options):
    """Score as ever; on rank 1, one call never ends."""
    if os.environ["RANK"] == "1" and next(calls) == 3:
        time.sleep(600)
    return score(*args, **options)


if os.environ["HANGS"] == "score":
    answering.score_documents = score_or_hang
elif os.environ["RANK"] == "1":
    session.refuse_other_weights = lambda *_args, **_options: time.sleep(600)
    Watchdog._leave = lambda *_args: None
main()
