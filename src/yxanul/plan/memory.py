"""How much memory one rank needs for a step, by part: arithmetic, not a measurement.

The one idea: an update is walked through, and the instant counts at which most is held. That is the
loss, when all layers have kept what their backward pass needs; or a layer's turn in that pass, when
gradients take the place of what is kept; or the embedding's, the last; or the optimizer's. Weights,
gradients and moments are fp32. DeepSpeed is counted as torch's own engine.

Activations are what the backward pass keeps of every token and layer, counted in the way of
Korthikanti et al. (arXiv 2205.05198, section 4.1) for this block: the norms' inputs and outputs;
queries and keys after rotation, beside the product whose part the values are; the attention's
output; gate, up and their product of the GEGLU. What torch.compile does not keep but compute again
an eager pass keeps: the norms' fp32 numbers and the activated gate. For the flagship in bf16 that
is 33,840 bytes compiled and 49,208 eager. The loss holds one chunk of logits, their gradient in the
same place, and the head's gradient with its newest part. Fragments of the allocator and buffers of
communication are left out, so a machine needs somewhat more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from yxanul.config.optimization import LOSS_CHUNK_TOKENS, MASKLESS, PLAIN_UP_TO
from yxanul.config.schema import ComputeConfig, ModelConfig, OptimizationConfig, RunConfig
from yxanul.plan.parameters import parameter_count

FP32_BYTES = 4
# Tokens of one forward pass when micro_batch_tokens is null: what an 80 GB card
# holds without gradient checkpointing, with room to spare. A run chooses by its own device.
ASSUMED_TOKENS = 32_768
MOST_TOKENS = 65_536  # more in one pass brings no speed; a run by rule takes no more either
# With 16,384 tokens in a pass an H200 lost 4 % of its speed at 32,768, with 8,192 a fifth, and so
# does whoever recomputes nearly all blocks (docs/performance.md).
ENOUGH_TOKENS = 16_384
CARD_SHARE = 0.92  # of a card's memory may be planned: kernels and the allocator need the rest


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one rank by part when most is held, and the tokens of the forward pass then."""

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


def memory(
    config: RunConfig, *, micro_batch_tokens: int | None = None, processes: int = 1
) -> Memory:
    """Return one process' memory in the stage and phase that need most, `auto` precision as bf16.

    `micro_batch_tokens` stands in for the configuration's; a pass holds at least one sequence.
    """
    asked = micro_batch_tokens or config.optimization.compute.micro_batch_tokens or ASSUMED_TOKENS
    passes = []
    for stage in config.stages:
        batch = stage.training.batch_tokens // processes
        for phase in stage.training.seq_len_curriculum:
            tokens = max(min(batch, asked), phase.seq_len)
            update = Update(tokens, phase.seq_len, accumulates=tokens < batch, processes=processes)
            passes.append(update_memory(config.model, config.optimization, update=update))
    return max(passes, key=lambda need: (need.total, need.micro_batch_tokens))


@dataclass(frozen=True, slots=True)
class Update:
    """One update of one rank: `tokens` in each forward pass, in rows of `seq_len`."""

    tokens: int
    seq_len: int
    accumulates: bool
    """Whether gradients of an earlier pass are there."""
    processes: int = 1
    """Ranks, which share the optimizer's state out among them where `compute.zero1` says so."""


def update_memory(
    model: ModelConfig, optimization: OptimizationConfig, *, update: Update
) -> Memory:
    """Return the memory of an update at the instant when most is held."""
    at = _Instants(model, optimization, update)
    instants = (at.loss(), *at.layers(), at.embedding(), at.optimizer())
    return max(instants, key=lambda held: held.total)


def largest_micro_batch(config: RunConfig, card_bytes: int, *, processes: int = 1) -> int | None:
    """Return the most tokens of one forward pass that fit each of several cards.

    A power of two, or a whole step where that is less. None: not even one sequence of the longest
    phase fits.
    """
    tokens = MOST_TOKENS
    while True:
        need = memory(config, micro_batch_tokens=tokens, processes=processes)
        if need.total <= CARD_SHARE * card_bytes:
            return need.micro_batch_tokens
        if tokens == 1:
            return None
        tokens //= 2


def recomputing_least(
    model: ModelConfig,
    optimization: OptimizationConfig,
    *,
    fits: Callable[[OptimizationConfig], bool],
) -> OptimizationConfig:
    """Return the settings with the least share of recomputed blocks that fits, or with all."""
    for blocks in range(1, model.num_hidden_layers):
        share = {"checkpointed_share": blocks / model.num_hidden_layers}
        compute = optimization.compute.model_copy(update=share)
        tried = optimization.model_copy(update={"compute": compute})
        if fits(tried):
            return tried
    return optimization


def recomputing_on(config: RunConfig, card_bytes: int | None, *, processes: int) -> RunConfig:
    """Return the configuration with the share of recomputed blocks that is open settled for a card.

    It is the least that leaves room for the tokens of a pass, as a run's first start finds it. A
    card of unknown size leaves it open, which means all.
    """
    compute = config.optimization.compute
    if card_bytes is None or not compute.is_share_open:
        return config
    most = largest_micro_batch(config, card_bytes, processes=processes) or 1
    tokens = compute.micro_batch_tokens or min(ENOUGH_TOKENS, most)

    def fits(tried: OptimizationConfig) -> bool:
        other = config.model_copy(update={"optimization": tried})
        need = memory(other, micro_batch_tokens=tokens, processes=processes)
        return need.total <= CARD_SHARE * card_bytes

    settled = recomputing_least(config.model, config.optimization, fits=fits)
    return config.model_copy(update={"optimization": settled})


def optimizer_bytes(
    model: ModelConfig, optimization: OptimizationConfig, *, processes: int = 1
) -> int:
    """Return the bytes of the moments: two per parameter for AdamW, one for Muon's matrices.

    NorMuon remembers one number more of each neuron, along a matrix's longer side.
    Under `compute.zero1` it is the process that holds most: the embedding, which has one owner, and
    its part of the matrices.
    """
    count = parameter_count(model)
    sharers = min(processes, 7 * count.layers) if optimization.compute.zero1 else 1
    if optimization.optimizer.name != "muon":
        of_matrices = 2 * count.matrices
    elif optimization.optimizer.muon_beta2 is None:
        of_matrices = count.matrices
    else:
        sides = sum(many * max(shape) for shape, many in _matrix_shapes(model).items())
        of_matrices = count.matrices + count.layers * sides
    rest = count.total - count.matrices
    return FP32_BYTES * (-(-of_matrices // sharers) + 2 * rest)


def _matrix_shapes(model: ModelConfig) -> Counter[tuple[int, int]]:
    """Return {(rows, columns): how many} of a layer's matrices."""
    hidden, inner = model.hidden_size, model.intermediate_size
    queries = model.num_attention_heads * model.head_dim
    keys = model.num_key_value_heads * model.head_dim
    shapes = Counter([(queries, hidden), (hidden, queries), (inner, hidden), (hidden, inner)])
    shapes.update({(keys, hidden): 2, (inner, hidden): 1})
    return shapes


def exchange_bytes(model: ModelConfig, *, processes: int) -> int:
    """Return the bytes of the buckets in which several processes exchange gradients; they last."""
    return FP32_BYTES * parameter_count(model).total if processes > 1 else 0


def layer_bytes(model: ModelConfig, compute: ComputeConfig, *, seq_len: int) -> int:
    """Return the bytes that one layer keeps of one token for its backward pass."""
    size, fused = _size(compute), compute.compile != "off"
    hidden, inner, heads = model.hidden_size, model.intermediate_size, model.num_attention_heads
    queries, keys = heads * model.head_dim, model.num_key_value_heads * model.head_dim
    # Eager: the input and the normalised numbers in fp32, and the root.
    norm = 2 * hidden * size if fused else hidden * (2 * FP32_BYTES + size) + FP32_BYTES
    is_short = compute.attention == "by_length" and seq_len <= PLAIN_UP_TO
    if compute.attention == "plain" or is_short:
        attention = size * (4 * queries + heads * seq_len)
    else:
        values = queries + 2 * keys if keys == queries else 2 * queries  # or repeated
        attention = size * (2 * queries + keys + values) + FP32_BYTES * heads
        if _has_mask(compute) and not fused:
            attention += size * seq_len  # each layer's own mask, as a bias
    return 2 * norm + attention + size * inner * (3 if fused else 4)


def _has_mask(compute: ComputeConfig) -> bool:
    """Return whether documents are kept apart by a mask: FlashAttention reads each by itself."""
    open_on_card = compute.attention == "auto" and compute.precision != "fp32"
    return compute.document_masking and not (open_on_card or compute.attention in MASKLESS)


def _size(compute: ComputeConfig) -> int:
    return FP32_BYTES if compute.precision == "fp32" else 2


@dataclass(frozen=True, slots=True)
class _Instants:
    """What one rank holds at the instants of an update."""

    model: ModelConfig
    optimization: OptimizationConfig
    update: Update

    def loss(self) -> Memory:
        """The end of the forward pass: everything is kept, and the last chunk's logits are read."""
        model, compute, tokens = self.model, self.optimization.compute, self.update.tokens
        size, head = _size(compute), parameter_count(model).embedding
        kept = tokens * self._kept(model.num_hidden_layers)
        chunk = min(compute.loss_chunk_tokens or LOSS_CHUNK_TOKENS["cuda"], tokens)
        # The head's gradient in fp32; a chunk's part of it where products have another type.
        gradients = head * (FP32_BYTES + (0 if size == FP32_BYTES else size))
        return self._held(
            blocks=model.num_hidden_layers,
            done=0,
            head_gradients=gradients,
            # With the gradient of the hidden states.
            activations=kept + size * (chunk * model.vocab_size + tokens * model.hidden_size),
            copies=size * head,  # with rows of zeros added
        )

    def layers(self) -> Iterator[Memory]:
        """The turns of layers in the backward pass that may need most.

        Between them it goes evenly up or down, layer by layer.
        """
        model, compute, seq_len = self.model, self.optimization.compute, self.update.seq_len
        size, layers = _size(compute), model.num_hidden_layers
        again = compute.checkpointed_blocks(layers)
        head = FP32_BYTES * parameter_count(model).embedding
        whole = layer_bytes(model, compute, seq_len=seq_len)
        # Gradients of its activations: those of gate and up, and what passes between layers.
        passing = size * (2 * model.intermediate_size + 2 * model.hidden_size)
        ends = {layers - 1, again, again - 1, 0}
        for layer in sorted(ends & set(range(layers)), reverse=True):
            turn = passing + (whole if layer < again else 0)
            yield self._held(
                blocks=layer + 1,
                done=layers - layer - 1,
                head_gradients=head,
                activations=self.update.tokens * (self._kept(layer + 1) + turn),
            )

    def embedding(self) -> Memory:
        """The end of the backward pass: the embedding's gradient joins the head's."""
        head = FP32_BYTES * parameter_count(self.model).embedding
        return self._held(
            blocks=0,
            done=self.model.num_hidden_layers,
            head_gradients=2 * head,
            activations=0,
        )

    def optimizer(self) -> Memory:
        """The update: Muon takes all matrices of one shape together, AdamW needs nothing more."""
        count, name = parameter_count(self.model), self.optimization.optimizer.name
        return self._held(
            blocks=0,
            done=count.layers,
            head_gradients=FP32_BYTES * count.embedding,
            activations=0,
            copies=self._orthogonalising() if name == "muon" else 0,
        )

    def _orthogonalising(self) -> int:
        """Return the bytes that Muon takes for the shape that needs most (`yxanul.optim.muon`)."""
        model, size = self.model, _size(self.optimization.compute)
        # First the momenta ahead and their stack, in fp32; then the stack, the matrices of a round
        # and of the next, and of each one's product with itself two.
        return model.num_hidden_layers * max(
            many
            * max(
                rows * columns * 2 * FP32_BYTES,
                rows * columns * 3 * size + 2 * size * min(rows, columns) ** 2,
            )
            for (rows, columns), many in _matrix_shapes(model).items()
        )

    def _held(
        self, *, blocks: int, done: int, head_gradients: int, activations: int, copies: int = 0
    ) -> Memory:
        """Return what is held while `blocks` blocks wait for their gradients and `done` have them.

        `activations`, `head_gradients` and further `copies` are those of the instant.
        """
        model, optimization, update = self.model, self.optimization, self.update
        count, size = parameter_count(model), _size(optimization.compute)
        # The input of the first block and of the final norm; one mask of bytes for all layers.
        mask = update.seq_len if _has_mask(optimization.compute) else 0
        around = update.tokens * (2 * size * model.hidden_size + mask)
        there = count.total if update.accumulates else done * count.matrices_per_layer
        buckets = exchange_bytes(model, processes=update.processes)
        return Memory(
            weights=FP32_BYTES * count.total,
            # Several processes add gradients up in the buckets themselves.
            gradients=(buckets or FP32_BYTES * there) + head_gradients,
            optimizer=optimizer_bytes(model, optimization, processes=update.processes),
            working_copies=self._copies(blocks) + copies,
            activations=around + activations,
            micro_batch_tokens=update.tokens,
        )

    def _kept(self, blocks: int) -> int:
        """Return the bytes that the first `blocks` blocks keep of a token for the backward pass."""
        model, compute = self.model, self.optimization.compute
        again = min(blocks, compute.checkpointed_blocks(model.num_hidden_layers))
        whole = layer_bytes(model, compute, seq_len=self.update.seq_len)
        return again * model.hidden_size * _size(compute) + (blocks - again) * whole

    def _copies(self, blocks: int) -> int:
        """Return the bytes of the copies of their matrices that the first `blocks` blocks keep.

        All of them in bf16; in fp32 those of queries, keys and values, which are joined. A copy is
        kept until the backward pass has used it; of a layer that is recomputed it is made again.
        """
        compute, count = self.optimization.compute, parameter_count(self.model)
        again = compute.checkpointed_blocks(count.layers)
        kept = max(0, blocks - again) + (1 if 0 < blocks <= again else 0)
        if compute.precision != "fp32":
            return 2 * kept * count.matrices_per_layer
        model = self.model
        heads = model.num_attention_heads + 2 * model.num_key_value_heads
        return FP32_BYTES * kept * heads * model.head_dim * model.hidden_size
