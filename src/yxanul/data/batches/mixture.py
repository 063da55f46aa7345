"""From a manifest to a stage's order, by its own sources and the earlier ones to replay.

The one idea: weights are relative within a stage, so they are brought to a sum of 1 per stage
before stages are mixed; every earlier stage then has the same part of the replay. They come from
the configuration, not from the prepared folder: another weight needs no new shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized

from yxanul.config.schema import SourceConfig, StageConfig
from yxanul.data.batches.order import OrderKey, OrderSource, StageOrder, stage_order
from yxanul.data.prepared.manifest import Manifest, require_stages
from yxanul.data.prepared.settings import LISTS, list_of
from yxanul.errors import UsageError


def source_weights(manifest: Manifest, stages: Sequence[StageConfig]) -> dict[str, float]:
    """Return {source: weight} for the prepared sources of `stages`, as these configure them.

    A folder is its stage's only source and weighs 1. Raises `UsageError` for a prepared source
    that its stage does not name (data that was prepared for another configuration).
    """
    weights: dict[str, float] = {}
    for stage in stages:
        held = manifest.sources_of(stage.name)
        # Documentation may stand in both lists, with another weight in each.
        of_documentation = list_of(stage, held)
        for name, record in held.items():
            key = LISTS.get(record.kind, of_documentation)
            listed: tuple[SourceConfig, ...] = getattr(stage.data, key) if key else ()
            named = {source.name: source.weight for source in listed}
            if key and name not in named:
                raise UsageError(
                    f"The prepared data has the source {name} in {stage.name}, whose data.{key} do "
                    "not name it; add it there with its weight, or use other data."
                )
            weights[name] = named.get(name, 1.0)
    return weights


def mixed_order(
    manifest: Manifest,
    stages: Sequence[StageConfig],
    *,
    key: OrderKey,
    n_chunks: int,
    chunks: Mapping[str, Sized],
    replay: tuple[float, float] | None = None,
) -> StageOrder:
    """Return the order of `n_chunks` samples of the last of the stages, after those before it.

    replay (share, ramp fraction): as in `stage_order`; None = as the stage's settings say. Raises
    what `source_weights`, `stage_mixture` and `stage_order` do.
    """
    *earlier, stage = stages
    own, replayed = stage_mixture(
        manifest,
        stage.name,
        earlier=[one.name for one in earlier],
        weights=source_weights(manifest, stages),
        chunks=chunks,
    )
    share, ramp = replay or (stage.data.replay_share, stage.data.ramp_fraction)
    return stage_order(
        key, n_chunks, own=own, replay=replayed, replay_share=share, ramp_fraction=ramp
    )


def stage_mixture(
    manifest: Manifest,
    stage: str,
    *,
    earlier: Sequence[str],
    weights: Mapping[str, float],
    chunks: Mapping[str, Sized],
) -> tuple[list[OrderSource], list[OrderSource]]:
    """Return (own sources, replayed sources) of a stage for `stage_order`.

    `earlier` names the stages before it; `weights` (see `source_weights`) and `chunks` are of each
    of their sources and of its own. Raises `UsageError` for a stage that the manifest does not
    hold and for a source smaller than one chunk.
    """
    require_stages(manifest, (*earlier, stage))
    own, *replayed = (
        _sources(manifest, name, weights=weights, chunks=chunks) for name in (stage, *earlier)
    )
    return own, [source for sources in replayed for source in sources]


def _sources(
    manifest: Manifest, stage: str, *, weights: Mapping[str, float], chunks: Mapping[str, Sized]
) -> list[OrderSource]:
    found = manifest.sources_of(stage)
    total = sum(weights[name] for name in found)
    result = []
    for name, item in found.items():
        if not len(chunks[name]):
            raise UsageError(
                f"The source {name} of {stage} has {item.train.tokens:,} training tokens, less "
                "than one chunk and one more; lower data.chunk_tokens, or give the source more "
                "documents and delete the prepared folder: it is prepared anew."
            )
        result.append(OrderSource(name, len(chunks[name]), weights[name] / total))
    return result
