"""How much memory one rank needs for a step, by part: arithmetic, not a measurement.

Weights, gradients and moments are fp32. Activations are what the backward pass keeps of every token
and layer, counted in the way of Korthikanti et al. (arXiv 2205.05198, section 4.1) for this block:
the norms' inputs and outputs; queries and keys after rotation, beside the product whose part the
values are; the attention's output; gate, up and their product of the GEGLU. What torch.compile does
not keep but compute again an eager pass keeps: the norms' fp32 numbers and the activated gate. For
the flagship in bf16 that is 33,840 bytes compiled and 49,208 eager. The loss holds one chunk of
logits, and their gradient in the same place. Temporaries of kernels, fragments of the allocator and
buffers of communication are left out, so a machine needs somewhat more.
"""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.config.schema import ComputeConfig, ModelConfig, OptimizationConfig, RunConfig
from yxanul.plan.parameters import parameter_count

FP32_BYTES = 4
# Tokens of one forward pass when micro_batch_tokens is null: what an 80 GB card
# holds without gradient checkpointing, with room to spare. A run chooses by its own device.
ASSUMED_TOKENS = 32_768
ASSUMED_LOSS_CHUNK = 8192  # what a run takes on a card
MOST_TOKENS = 65_536  # more in one pass brings no speed; a run by rule takes no more either
CARD_SHARE = 0.92  # of a card's memory may be planned: kernels and the allocator need the rest


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one rank by part, and the tokens per forward pass they were counted for."""

    weights: int
    gradients: int
    optimizer: int
    working_copies: int
    activations: int
    micro_batch_tokens: int

    @property
    def total(self) -> int:
        """Sum of the parts, in bytes."""
        return (
            self.weights + self.gradients + self.optimizer + self.working_copies + self.activations
        )


def memory(config: RunConfig, *, micro_batch_tokens: int | None = None) -> Memory:
    """Return the memory of the stage and phase that need most, with `auto` precision as bf16.

    `micro_batch_tokens` stands in for the configuration's; a pass holds at least one sequence.
    """
    asked = micro_batch_tokens or config.optimization.compute.micro_batch_tokens or ASSUMED_TOKENS
    passes = (
        pass_memory(
            config.model,
            config.optimization,
            tokens=min(stage.training.batch_tokens, max(asked, phase.seq_len)),
            seq_len=phase.seq_len,
        )
        for stage in config.stages
        for phase in stage.training.seq_len_curriculum
    )
    return max(passes, key=lambda need: (need.activations, need.micro_batch_tokens))


def pass_memory(
    model: ModelConfig, optimization: OptimizationConfig, *, tokens: int, seq_len: int
) -> Memory:
    """Return the memory of an update whose forward passes hold `tokens` in rows of `seq_len`."""
    compute, count = optimization.compute, parameter_count(model)
    return Memory(
        weights=FP32_BYTES * count.total,
        gradients=FP32_BYTES * count.total,
        optimizer=optimizer_bytes(model, optimization),
        # a bf16 copy of every matrix is kept until the backward pass has used it
        working_copies=0 if compute.precision == "fp32" else 2 * (count.total - count.norms),
        activations=activation_bytes(model, compute, tokens=tokens, seq_len=seq_len),
        micro_batch_tokens=tokens,
    )


def largest_micro_batch(config: RunConfig, card_bytes: int) -> int | None:
    """Return the most tokens of one forward pass, a power of two, that fit a card.

    None: not even one sequence of the longest phase fits.
    """
    tokens = MOST_TOKENS
    while True:
        need = memory(config, micro_batch_tokens=tokens)
        if need.total <= CARD_SHARE * card_bytes:
            return need.micro_batch_tokens
        if tokens == 1:
            return None
        tokens //= 2


def optimizer_bytes(model: ModelConfig, optimization: OptimizationConfig) -> int:
    """Return the bytes of the moments: two per parameter for AdamW, one for Muon's matrices."""
    count = parameter_count(model)
    single = count.matrices if optimization.optimizer.name == "muon" else 0
    return FP32_BYTES * (2 * count.total - single)


def activation_bytes(
    model: ModelConfig, compute: ComputeConfig, *, tokens: int, seq_len: int
) -> int:
    """Return the bytes kept for the backward pass of `tokens` tokens in rows of `seq_len`."""
    per_token = layer_bytes(model, compute, seq_len=seq_len)
    size = _size(compute)
    layers = model.num_hidden_layers
    again = compute.checkpointed_blocks(layers)
    # Of a layer that is recomputed its input, and one of them in full when its turn comes.
    kept = again * model.hidden_size * size + max(layers - again, 1) * per_token
    chunk = min(compute.loss_chunk_tokens or ASSUMED_LOSS_CHUNK, tokens)
    logits = size * chunk * model.vocab_size  # whose gradient is written over them
    # One mask of bytes for all layers.
    mask = tokens * seq_len if compute.document_masking else 0
    return tokens * (kept + 2 * size * model.hidden_size) + logits + mask


def layer_bytes(model: ModelConfig, compute: ComputeConfig, *, seq_len: int) -> int:
    """Return the bytes that one layer keeps of one token for its backward pass."""
    size, fused = _size(compute), compute.compile != "off"
    hidden, inner, heads = model.hidden_size, model.intermediate_size, model.num_attention_heads
    queries, keys = heads * model.head_dim, model.num_key_value_heads * model.head_dim
    # Eager: the input and the normalised numbers in fp32, and the root.
    norm = 2 * hidden * size if fused else hidden * (2 * FP32_BYTES + size) + FP32_BYTES
    if compute.attention == "plain":
        attention = size * (4 * queries + heads * seq_len)
    else:
        values = queries + 2 * keys if keys == queries else 2 * queries  # or repeated
        attention = size * (2 * queries + keys + values) + FP32_BYTES * heads
    return 2 * norm + attention + size * inner * (3 if fused else 4)


def _size(compute: ComputeConfig) -> int:
    return FP32_BYTES if compute.precision == "fp32" else 2
