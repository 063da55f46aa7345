"""Promises about memory and disk, judged by the memory formula."""

from __future__ import annotations

from yxanul.cards import GB
from yxanul.config.schema import ModelConfig, RunConfig
from yxanul.plan.claims.claim import TOLERANCE, Claim, Facts
from yxanul.plan.flops import recomputed_share
from yxanul.plan.memory import CARD_SHARE, Update, memory, update_memory
from yxanul.plan.storage import disk_bytes, kept_checkpoint_bytes, ram_bytes
from yxanul.plan.tables import figures, percent
from yxanul.units import format_bytes

_UNREAD = "the unique tokens of a stage are not known before its data is read"
BATCH = 4.0
SMALL_CARD = 24 * GB
SMALL_RAM = 32 * GB
SMALL_DISK = 100 * GB
DISK = 500 * GB
_MANY = 131_072  # tokens of a pass, so many that the rest no longer decides when most is held


def memory_claims(facts: Facts) -> tuple[Claim, ...]:
    """Judge gradient checkpointing, the smallest machine and the disk."""
    smallest = (_small_card(facts), _small_ram(facts), _small_disk(facts))
    return (_checkpointing(facts), *smallest, _disk(facts))


def _checkpointing(facts: Facts) -> Claim:
    """Compare the bytes that one more token keeps, without and with recomputing."""
    model, optimization = facts.config.model, facts.config.optimization

    def per_token(checkpointing: bool) -> float:
        switches = {"gradient_checkpointing": checkpointing, "checkpointed_share": 1.0}
        compute = optimization.compute.model_copy(update=switches)
        switched = optimization.model_copy(update={"compute": compute})
        # The difference leaves out what does not grow: weights, a chunk of logits.
        few, many = (
            update_memory(model, switched, update=update).activations
            for update in (_long_pass(model, _MANY), _long_pass(model, 2 * _MANY))
        )
        return (many - few) / _MANY

    without, with_it = per_token(False), per_token(True)
    times = without / with_it
    more = recomputed_share(model, facts.config.stages)
    why = (
        f"a token keeps {format_bytes(without)} of activations without it and "
        f"{format_bytes(with_it)} with it; it costs {percent(more)} more work, and 80 GB do not "
        "need it"
    )
    return Claim(
        "gradient checkpointing: 4x batch",
        BATCH,
        "x",
        times,
        times >= BATCH * (1 - TOLERANCE),
        why,
    )


def _long_pass(model: ModelConfig, tokens: int) -> Update:
    return Update(tokens, model.max_position_embeddings, accumulates=True)


def _small_card(facts: Facts) -> Claim:
    need = memory(facts.config, micro_batch_tokens=1)
    why = (
        f"{_gb(need.total)} with {need.micro_batch_tokens:,} tokens at a time, the "
        f"longest sequence; {percent(CARD_SHARE)} of a card may be planned"
    )
    return Claim(
        "a card with 24 GB trains it (testing)",
        SMALL_CARD,
        "bytes",
        need.total,
        need.total <= CARD_SHARE * SMALL_CARD,
        why,
    )


def _small_ram(facts: Facts) -> Claim:
    need = ram_bytes(facts.config, processes=1)
    why = (
        f"one process holds {_gb(need)} while it saves or resumes; eight that resume hold "
        f"{_gb(ram_bytes(facts.config, processes=8))}"
    )
    name = "32 GB of main memory are enough (testing)"
    return Claim(name, SMALL_RAM, "bytes", need, need <= SMALL_RAM, why)


def _small_disk(facts: Facts) -> Claim:
    name = "100 GB of disk are enough (testing)"
    fewer = disk_bytes(_without_permanent(facts.config))
    more = ""
    if fewer is not None:
        more = "; without those kept for good, one per so many tokens "
        more += f"(checkpoint.permanent_every_tokens), {_gb(fewer)}"
    return _room(name, facts.config, promised=SMALL_DISK, more=more)


def _without_permanent(config: RunConfig) -> RunConfig:
    kept = config.optimization.checkpoint.model_copy(update={"permanent_every_tokens": None})
    optimization = config.optimization.model_copy(update={"checkpoint": kept})
    return config.model_copy(update={"optimization": optimization})


def _disk(facts: Facts) -> Claim:
    return _room("500 GB of disk are enough", facts.config, promised=DISK)


def _room(name: str, config: RunConfig, *, promised: float, more: str = "") -> Claim:
    """Judge a size of the disk; where shards are not known, by the checkpoints if they decide."""
    need, what = disk_bytes(config), "shards and checkpoints together take"
    if need is None:
        need, what = kept_checkpoint_bytes(config, is_lengthened=True), "checkpoints alone take"
        if need <= promised:
            return Claim(name, promised, "bytes", None, None, _UNREAD)
    why = f"{what} {_gb(need)}, if gates lengthen every stage as often as they may{more}"
    return Claim(name, promised, "bytes", need, need <= promised, why)


def _gb(size: float) -> str:
    return f"{figures(size / GB, 3)} GB"
