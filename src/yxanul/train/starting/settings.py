"""From a request to a configuration; loads no torch, which verbs beside a run can do without."""

from yxanul.config.load import load_config, stage_names
from yxanul.config.schema import RunConfig
from yxanul.config.yamltext import quoted
from yxanul.train.starting.request import RunRequest


def read_config(request: RunRequest) -> RunConfig:
    """Load all stages, or those up to the request's: replay reads the earlier ones."""
    stages: list[str] | None = None
    if request.stage is not None:
        known = stage_names(request.config_dir)
        # An unknown stage is left to load_config, which names the known ones.
        stages = [request.stage]
        if request.stage in known:
            stages = list(known[: known.index(request.stage) + 1])
    overrides = list(request.overrides)
    if request.data is not None:
        overrides.append(f"data.source={quoted(request.data)}")
    if request.bench_dir is not None:
        overrides.append(f"evaluation.bench={quoted(str(request.bench_dir))}")
    return load_config(request.config_dir, stages=stages, model=request.model, overrides=overrides)
