"""The whole model: embedding, blocks, final norm, tied head.

Parameter names are those of Hugging Face's Gemma class, so that an export renames nothing. The
model knows one device and no files; precision and attention path are values handed in, never looked
up.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from yxanul.config.schema import ModelConfig
from yxanul.config.tokens import IGNORED
from yxanul.model.attention import attention_path, document_layout
from yxanul.model.fp8 import use_fp8
from yxanul.model.initialisation import initialise
from yxanul.model.layers import Block, RMSNorm, Rotary
from yxanul.model.loss import chunked_cross_entropy, token_nats


class Transformer(nn.Module):
    """A causal language model of Gemma-1 blocks with a tied head and fp32 weights."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        compute_dtype: torch.dtype = torch.float32,
        attention: str = "sdpa",
        loss_chunk_tokens: int = 1024,
        checkpointed_blocks: int = 0,
        mask_documents: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.loss_chunk_tokens = loss_chunk_tokens
        self.checkpointed_blocks = checkpointed_blocks
        self.document_layout = document_layout(attention) if mask_documents else None
        rotary = Rotary(config.head_dim, config.max_position_embeddings, theta=config.rope_theta)
        path = attention_path(attention)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, rotary, attention=path) for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.compiled: Callable[[Tensor, Tensor | None], Tensor] | None = None

    @classmethod
    def initialised(cls, config: ModelConfig, *, seed: int, **options: object) -> "Transformer":
        """Build the model with start values drawn from `seed`."""
        model = cls(config, **options)  # type: ignore[arg-type]
        initialise(model, config, seed=seed)
        return model

    @classmethod
    def without_weights(cls, config: ModelConfig, **options: object) -> "Transformer":
        """Lay the model out without memory for weights and without drawing a random number.

        `load_state_dict(tensors, assign=True)` gives it weights, without a copy and of any type.
        """
        with torch.device("meta"):
            return cls(config, **options)  # type: ignore[arg-type]

    def forward(
        self, tokens: Tensor, targets: Tensor | None = None, *, bounds: Tensor | None = None
    ) -> Tensor:
        """Return hidden states (batch, seq, hidden), or with targets the loss.

        The loss is the sum of nats, 0-D fp32. tokens and targets are (batch, seq) int64; targets
        equal to -100 are ignored. Where documents are masked from each other, `bounds` say where
        they begin (`StepRows.bounds`); without them a row is one document.
        """
        hidden = self.hidden_states(tokens, bounds=bounds)
        if targets is None:
            return hidden
        return chunked_cross_entropy(
            hidden.flatten(0, 1),
            self.embed_tokens.weight,
            targets=targets.flatten(),
            chunk_tokens=self.loss_chunk_tokens,
        )

    def hidden_states(self, tokens: Tensor, *, bounds: Tensor | None = None) -> Tensor:
        """(batch, seq) -> (batch, seq, hidden) after the final norm, in the compute type."""
        x = self.embed_tokens(tokens).to(self.compute_dtype)
        x = x * torch.tensor(math.sqrt(self.config.hidden_size), dtype=x.dtype)
        if torch.is_grad_enabled():
            documents = None
            if self.document_layout is not None and bounds is not None:
                documents = self.document_layout(bounds, tokens.shape)
            x = (self.compiled or self.run_blocks)(x, documents)
        else:
            # Each document is scored alone, so there is nothing to mask. Rows have many lengths,
            # and a compiled graph for each would cost more than it saves.
            for block in self.layers:
                x = block.forward(x)
            x = self.norm.forward(x)
        return x

    def run_blocks(self, x: Tensor, documents: Tensor | None = None) -> Tensor:
        """Pass (batch, seq, hidden) through all blocks and the final norm.

        `documents` are as `document_layout` lays them out; None: a row is one.
        """
        # The first ones: their turn in the backward pass comes when the others have freed theirs.
        for number, block in enumerate(self.layers):
            if number < self.checkpointed_blocks:
                # Nothing in a block is drawn at random, so no generator need be kept and set back,
                # which takes the host's time for every block.
                x = checkpoint(
                    block, x, documents=documents, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x = block(x, documents=documents)
        normed: Tensor = self.norm(x)
        return normed

    def round_products(self, part: str, *, recipe: str, emulate: bool) -> None:
        """Multiply in FP8 in the `ffn` or all of the `blocks`; see `yxanul.model.fp8.use_fp8`."""
        use_fp8(self.layers, part, recipe=recipe, emulate=emulate)

    def compile_training(self, how: str) -> None:
        """Compile each `block` (equal ones share a graph) or all of them, the `model`.

        Names of parameters stay as they are. There is one graph per sequence length and number of
        rows, so shapes are static.
        """
        if how == "block":
            for part in (*self.layers, self.norm):
                part.compile(dynamic=False)
        elif how == "model":
            self.compiled = torch.compile(self.run_blocks, dynamic=False)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., hidden) -> (..., vocab): to look at a few, never in training."""
        return F.linear(hidden, self.embed_tokens.weight.to(hidden.dtype))

    @torch.no_grad()
    def nats(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return each target's nats, (batch, seq) fp32, no gradients; 0 where it is -100."""
        hidden = self.hidden_states(tokens)
        # Padding and context are most of what is read of long documents, and the head over the
        # whole vocabulary is most of the work.
        scored = targets != IGNORED
        nats = torch.zeros(targets.shape, dtype=torch.float32, device=hidden.device)
        nats[scored] = token_nats(
            hidden[scored],
            self.embed_tokens.weight,
            targets=targets[scored],
            chunk_tokens=self.loss_chunk_tokens,
        )
        return nats
