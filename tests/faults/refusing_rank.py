"""A program for torchrun's ranks: yxanul, where rank 1's machine alone cannot do what is asked."""

import os

from yxanul.cli.main import main
from yxanul.errors import UsageError
from yxanul.train.starting import refusals

rule = refusals.ruled_config


def rule_and_refuse(config, folder, *, machine):
    """Choose as ever; rank 1's device is of another kind."""
    if os.environ["RANK"] == "1":
        raise UsageError("compute.precision=bf16 needs another card")
    return rule(config, folder, machine=machine)


refusals.ruled_config = rule_and_refuse
main()
