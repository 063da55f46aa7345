"""Promises about memory and disk, judged by the memory formula."""

from __future__ import annotations

from yxanul.cards import GB
from yxanul.plan.claims.claim import TOLERANCE, Claim, Facts
from yxanul.plan.flops import recomputed_share
from yxanul.plan.memory import ASSUMED_LOSS_CHUNK, CARD_SHARE, activation_bytes, memory
from yxanul.plan.storage import disk_bytes
from yxanul.plan.tables import percent
from yxanul.units import format_bytes

BATCH = 4.0
SMALL_CARD = 24 * GB
DISK = 500 * GB


def memory_claims(facts: Facts) -> tuple[Claim, ...]:
    """Judge gradient checkpointing, the smallest card and the disk."""
    return (_checkpointing(facts), _small_card(facts), _disk(facts))


def _checkpointing(facts: Facts) -> Claim:
    """Compare the bytes that one more token keeps, without and with recomputing."""
    model, compute = facts.config.model, facts.config.optimization.compute
    seq_len, chunk = model.max_position_embeddings, ASSUMED_LOSS_CHUNK

    def per_token(checkpointing: bool) -> float:
        switched = compute.model_copy(
            update={
                "gradient_checkpointing": checkpointing,
                "checkpointed_share": 1.0,
                "loss_chunk_tokens": chunk,
            }
        )
        # Both counts hold a whole chunk of logits, which the difference leaves out.
        few, many = (
            activation_bytes(model, switched, tokens=tokens, seq_len=seq_len)
            for tokens in (chunk, 2 * chunk)
        )
        return (many - few) / chunk

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


def _small_card(facts: Facts) -> Claim:
    need = memory(facts.config, micro_batch_tokens=1)
    why = (
        f"{need.total / GB:.3g} GB with {need.micro_batch_tokens:,} tokens at a time, the "
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


def _disk(facts: Facts) -> Claim:
    name = "500 GB of disk are enough"
    need = disk_bytes(facts.config)
    if need is None:
        why = "the unique tokens of a stage are not known before its data is read"
        return Claim(name, DISK, "bytes", None, None, why)
    why = f"shards and checkpoints together take {need / GB:.3g} GB"
    return Claim(name, DISK, "bytes", need, need <= DISK, why)
