"""From a request to a configuration; loads no torch, which verbs beside a run can do without."""

import re
from collections.abc import Sequence

from yxanul.config.load import load_config, stage_names
from yxanul.config.overrides import parse_override
from yxanul.config.schema import RunConfig
from yxanul.config.yamltext import quoted
from yxanul.errors import UsageError
from yxanul.train.starting.request import RunRequest


def read_config(request: RunRequest) -> RunConfig:
    """Load all stages, or those up to the request's: replay reads the earlier ones.

    A flag beside a `--set` of what it sets, also of one stage, is a `UsageError`.
    """
    stages: list[str] | None = None
    if request.stage is not None:
        known = stage_names(request.config_dir)
        # An unknown stage is left to load_config, which names the known ones.
        stages = [request.stage]
        if request.stage in known:
            stages = list(known[: known.index(request.stage) + 1])
    overrides = list(request.overrides)
    if request.num_epochs is not None:
        own = f"({re.escape(str(request.stage))}[.])?training.total_tokens"
        refuse_both("--num_epochs", own, overrides=overrides)
    if request.data is not None:
        refuse_both("--data", "(.*[.])?data.source", overrides=overrides)
        overrides.append(f"data.source={quoted(request.data)}")
    if request.bench_dir is not None:
        refuse_both("--bench_dir", "(.*[.])?evaluation.bench", overrides=overrides)
        overrides.append(f"evaluation.bench={quoted(str(request.bench_dir))}")
    return load_config(request.config_dir, stages=stages, model=request.model, overrides=overrides)


def refuse_both(flag: str, keys: str, *, overrides: Sequence[str]) -> None:
    """Raise a `UsageError` for a `--set` of a key that the pattern describes beside the flag."""
    for text in overrides:
        if re.fullmatch(keys, ".".join(parse_override(text).path)):
            raise UsageError(
                f"{flag} and --set {text} set the same; leave one of them out (of several --set "
                "that name one key, for all stages and for one, the last one counts)"
            )
