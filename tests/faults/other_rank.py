"""A program for torchrun's ranks: yxanul, where rank 1 has something else than rank 0: OTHER."""

import os
from dataclasses import replace

import yxanul
from yxanul.cli.main import main
from yxanul.train import run
from yxanul.train.starting.corpus import Corpus

identity, find_position = Corpus.identity, run.find_position
if os.environ["RANK"] == "1":
    match os.environ["OTHER"]:
        case "the program":
            yxanul.__version__ = "0.0.1"
        case "the data":
            Corpus.identity = lambda *asked: identity(*asked) | {"texts": "0" * 64}
        case "where the run stands":
            run.find_position = lambda *asked: replace(find_position(*asked), tokens_seen=128)
main()
