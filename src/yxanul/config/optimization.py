"""Settings of optimization.yaml: optimizer, arithmetic, checkpoints, logging, budget.

The one idea: every optimisation is a switch with a name. It does not decide what a switch means on
a given machine; the train room does, once, at a run's first start.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from yxanul.config.base import PositiveFloat, PositiveInt, Section, refuse

PLAIN_UP_TO = 1024
"""Tokens: the longest row for which plain attention is the faster one on a CPU."""
CPU_MICRO_BATCH_TOKENS = 2048
"""Tokens of a pass by rule on a CPU: about 2 GiB of the 303M flagship's activations in bf16."""
LOSS_CHUNK_TOKENS = {"cpu": 2048, "cuda": 8192}
"""By rule, for a kind of device: longer chunks are faster on a card and hold more logits, 0.8 GB in
bf16 (docs/performance.md)."""
MASKLESS = ("flash", "flash3")
"""Attention paths that read each document of a row by itself, in bf16 on a card."""
CARD_PATHS = ("cudnn", *MASKLESS, "efficient")
"""Attention paths that pin a kernel of a card."""
FP8_MULTIPLE = 16
"""FP8 products want both sides of a matrix to be a multiple of this."""
AttentionName = Literal[
    "auto", "plain", "sdpa", "by_length", "cudnn", "flash", "flash3", "efficient"
]


class OptimizerConfig(Section):
    """How gradients become updates."""

    name: Literal["adamw", "muon"] = Field(
        default="adamw",
        description="adamw for every parameter, or muon for the matrices inside the layers "
        "(embedding and norms stay with AdamW).",
    )
    beta1: float = Field(
        default=0.9, ge=0, lt=1, description="AdamW's memory of the gradient (0 to 1)."
    )
    beta2: float = Field(
        default=0.95, ge=0, lt=1, description="AdamW's memory of the squared gradient (0 to 1)."
    )
    eps: PositiveFloat = Field(
        default=1e-8, description="Added to the root in AdamW's divisor (no unit)."
    )
    weight_decay: float = Field(
        default=0.1, ge=0, description="Decoupled decay per unit of learning rate; matrices only."
    )
    max_grad_norm: PositiveFloat = Field(
        default=0.3,
        description="Gradients are clipped to this global L2 norm, over all parameters.",
    )
    muon_momentum: float = Field(
        default=0.95,
        ge=0,
        lt=1,
        description="Momentum of Muon (0 to 1); refused under adamw unless at its default.",
    )
    muon_beta2: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Memory (0 to 1) of how far Muon moves each neuron, which evens them out "
        "(NorMuon, arXiv 2510.05491; 0.95 there); null = plain Muon. Refused under adamw unless at "
        "its default.",
    )
    fused: bool = Field(
        default=True, description="Use torch's fused AdamW kernel where the device has one."
    )


class ComputeConfig(Section):
    """How the arithmetic is done: every optimisation is a switch here."""

    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description="Type of matrix products; weights and moments stay fp32. auto = by rule from "
        "the device, frozen at the run's first start.",
    )
    attention: AttentionName = Field(
        default="auto",
        description="Attention path: plain = matmul and softmax; sdpa = torch chooses; by_length "
        "= plain up to 1,024 tokens, sdpa for longer rows; cudnn, flash, flash3 (FlashAttention "
        "3's package), efficient = that kernel or an error; auto = by rule on a CPU, the fastest "
        "of cudnn, flash and flash3 as timed on a card, frozen at first start.",
    )
    document_masking: bool = Field(
        default=False,
        description="In training a token looks at its own document only, which begins with "
        "<|endoftext|>: flash and flash3 read each by itself, which costs no memory, cudnn cannot, "
        "the others take a mask over whole rows.",
    )
    compile: Literal["auto", "off", "block", "model"] = Field(
        default="auto",
        description="torch.compile on nothing, on each block, or on the whole model; auto = block "
        "on a CUDA card that has triton, a C compiler and Python.h, else off, frozen at first "
        "start.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Recompute blocks in the backward pass: less memory; if it is all of them "
        "about a quarter more arithmetic, and on an H200 half the speed (8,192 tokens at a time).",
    )
    checkpointed_share: float | None = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Which share of the blocks gradient_checkpointing recomputes (0 to 1), the "
        "first ones; null = as few as leave room on a card (for 16,384 tokens in a pass, if "
        "micro_batch_tokens is null too), as tried at the first start and frozen, all on a CPU.",
    )
    loss_chunk_tokens: PositiveInt | None = Field(
        default=None,
        description="Tokens per chunk of the loss; the logits of one chunk are all that exists. "
        "null = 2,048 on a CPU, 8,192 on a card, frozen at first start.",
    )
    micro_batch_tokens: PositiveInt | None = Field(
        default=None,
        description="Tokens in one forward pass on one rank, whatever the sequence length; null = "
        "by rule on a CPU, what fits as tried on a card, frozen at the run's first start.",
    )
    threads: PositiveInt | None = Field(
        default=None,
        description="CPU threads per process; null = the machine's cores, shared out among its "
        "processes, frozen at the run's first start, anew for another number of processes.",
    )
    keep_freed_memory: bool = Field(
        default=True,
        description="Ask glibc to keep freed memory (mallopt): 1.2x and more on a CPU.",
    )
    float32_matmul_precision: Literal["highest", "high", "medium"] = Field(
        default="high", description="torch.set_float32_matmul_precision for fp32 products."
    )
    engine: Literal["torch", "deepspeed"] = Field(
        default="torch",
        description="What averages gradients over processes and drives the optimizer: torch's DDP, "
        "or DeepSpeed's ZeRO-1 (the extra yxanul[deepspeed]), which --deepspeed FILE asks for.",
    )
    deepspeed_config: str | None = Field(
        default=None,
        description="DeepSpeed's JSON file, as --deepspeed names it; what it leaves auto is filled "
        "from here, what contradicts is refused. null = everything from here. Gradients are "
        "exchanged 25 million at a time (0.1 GB, and as much again meanwhile), unless its "
        "zero_optimization.reduce_bucket_size says otherwise.",
    )
    fp8: Literal["off", "auto", "ffn", "blocks"] = Field(
        default="off",
        description="8-bit matrix products (torchao, the extra yxanul[fp8]) in the feed-forward "
        "layers or in all of the blocks; auto = what a card is fastest with, as timed at the first "
        "start and frozen, off on a CPU.",
    )
    fp8_recipe: Literal["tensorwise", "rowwise"] = Field(
        default="tensorwise",
        description="One FP8 scale for a tensor, or one for each row: more exact and slower.",
    )
    fp8_emulate: bool = Field(
        default=False,
        description="Round to FP8 and multiply in fp32, on any device: slow, to try what the "
        "rounding does to a loss.",
    )
    flash_attention_3: Literal["auto", True, False] = Field(
        default="auto",
        description="FlashAttention 3's package (module flash_attn_interface, Hopper cards): auto "
        "= attention=auto times it with the other kernels where it is installed; true = it or an "
        "error; false = not even tried. Frozen at first start.",
    )
    zero1: bool = Field(
        default=False,
        description="Share the optimizer's state and work out among torchrun's processes (ZeRO-1): "
        "each holds and moves its part.",
    )

    @model_validator(mode="after")
    def _kernel_and_its_switch_agree(self) -> ComputeConfig:
        if self.flash_attention_3 is True and self.attention not in ("auto", "flash3"):
            refuse(
                [
                    f"flash_attention_3 is true, but attention is {self.attention}; set attention="
                    "auto, or flash_attention_3=auto"
                ]
            )
        if self.flash_attention_3 is False and self.attention == "flash3":
            refuse(["attention is flash3, but flash_attention_3 is false; set it to auto"])
        return self

    @property
    def is_share_open(self) -> bool:
        """Whether a run's first start finds how few blocks have to be recomputed."""
        return self.gradient_checkpointing and self.checkpointed_share is None

    @property
    def recompute_more(self) -> str | None:
        """The setting that has all blocks recomputed, as `--set` takes it; None: they are."""
        if not self.gradient_checkpointing:
            return "compute.gradient_checkpointing=true"
        return None if self.checkpointed_share in (None, 1.0) else "compute.checkpointed_share=1"

    def checkpointed_blocks(self, layers: int) -> int:
        """Return how many of a model's blocks are recomputed; an open share is all of them."""
        share = 1.0 if self.checkpointed_share is None else self.checkpointed_share
        # 3 / 28 * 28 is a little over 3.
        return math.ceil(round(share * layers, 6)) if self.gradient_checkpointing else 0


class CheckpointConfig(Section):
    """When the run is saved, and how much is kept."""

    every_s: PositiveFloat | None = Field(
        default=300.0, description="Seconds between checkpoints; null = not by time."
    )
    every_steps: PositiveInt | None = Field(
        default=None, description="Steps between checkpoints; null = not by steps."
    )
    keep: int = Field(default=2, ge=2, description="Verified checkpoints kept; at least two.")
    mirror: str | None = Field(
        default=None,
        description="A folder outside the run's own, or an address (s3://..., hf://...), to which "
        "checkpoints and rows are copied; an empty run folder begins with the run that lies there. "
        "null = none.",
    )
    mirror_every_s: PositiveFloat = Field(
        default=900.0,
        description="Seconds from the beginning of one copy to that of the next; the run's last "
        "checkpoint and those that are kept for good go at once.",
    )
    permanent_every_tokens: PositiveInt | None = Field(
        default=1_000_000_000,
        description="Tokens between checkpoints that are never deleted, beside those of stages' "
        "ends; null = only those.",
    )


class NumericsConfig(Section):
    """Which steps do not move the weights, and when a run goes back (PaLM, arXiv 2204.02311)."""

    window_steps: int = Field(
        default=128, ge=32, description="Steps whose losses say what is usual; at least 32."
    )
    spike_deviations: PositiveFloat | None = Field(
        default=10.0,
        description="A loss so many deviations (from the median absolute one), and 25 %, above the "
        "median of the window moves no weight; null = only what is not finite.",
    )
    skipped_in_a_row: int = Field(
        default=3, ge=1, description="So many skipped steps in a row, and the run goes back."
    )
    skipped_share: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="So is it for this share of 1,000, skipped in the last 1,000 steps of this "
        "attempt; an extension begins one, too.",
    )
    back_steps: PositiveInt = Field(
        default=100, description="Steps before the trouble to go back to, if they are kept."
    )
    skip_steps: PositiveInt = Field(
        default=200, description="Steps whose text is left out after going back."
    )


class WatchConfig(Section):
    """What is watched while the run goes on."""

    hang_s: PositiveFloat | None = Field(
        default=600.0,
        description="Seconds in which a step or a save must end (six times that for the first, and "
        "ten times what the longest took), and six times that in which a batch of a score, and the "
        "other ranks' part of it, must; then the stacks are written and the process leaves with "
        "11. null = it is waited for.",
    )
    weights_every_steps: PositiveInt | None = Field(
        default=100,
        description="Steps between comparisons of the weights of all processes, bit for bit; null "
        "= never.",
    )


class LoggingConfig(Section):
    """What is written of a run while it goes on, and who draws it."""

    every_steps: PositiveInt = Field(default=10, description="Steps between rows of metrics.jsonl.")
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field(
        default=("tensorboard",),
        strict=False,
        description="Live curves of every row: tensorboard in RUN/tensorboard; wandb and trackio, "
        "offline, with the extra yxanul[track]; [] = none.",
    )
    prompts: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Continued at the run's beginning and at every stage's end, into "
        "RUN/samples.jsonl; [] = none.",
    )
    prompt_tokens: PositiveInt = Field(
        default=48, description="At most so many new tokens per prompt."
    )
    prompt_temperature: float = Field(
        default=0.8,
        ge=0,
        description="Temperature of these samples; 0 = the likeliest token every time.",
    )


class BudgetConfig(Section):
    """What the run may cost; gates forecast it (G8), and a run that has spent it stops, saved."""

    hours: PositiveFloat | None = Field(
        default=None, description="Hours of wall clock for the whole run; null = no limit."
    )
    usd: PositiveFloat | None = Field(
        default=None, description="Dollars for the whole run; needs usd_per_hour. null = no limit."
    )
    usd_per_hour: PositiveFloat | None = Field(
        default=None,
        description="Price of the whole machine, all its cards, per hour; null = not known.",
    )

    @model_validator(mode="after")
    def _dollars_need_a_price(self) -> BudgetConfig:
        if self.usd is not None and self.usd_per_hour is None:
            refuse(["budget.usd needs budget.usd_per_hour, the price of the whole machine"])
        return self


class OptimizationConfig(Section):
    """optimization.yaml: everything that is neither the model's shape nor a stage's plan."""

    seed: int = Field(
        default=42, ge=0, lt=2**63, description="Seed of the initial weights and of every choice."
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(), description="How gradients become updates."
    )
    compute: ComputeConfig = Field(default=ComputeConfig(), description="Arithmetic switches.")
    checkpoint: CheckpointConfig = Field(
        default=CheckpointConfig(), description="When the run is saved."
    )
    numerics: NumericsConfig = Field(
        default=NumericsConfig(), description="What is done about losses that cannot be trusted."
    )
    watch: WatchConfig = Field(
        default=WatchConfig(), description="What ends a run that hangs or whose ranks differ."
    )
    logging: LoggingConfig = Field(
        default=LoggingConfig(), description="Metric rows and live curves."
    )
    budget: BudgetConfig = Field(default=BudgetConfig(), description="What the run may cost.")

    @model_validator(mode="after")
    def _one_engine(self) -> OptimizationConfig:
        compute, problems = self.compute, []
        if compute.engine == "deepspeed":
            if compute.zero1:
                problems.append(
                    "compute.zero1 shares the optimizer's state in torch's engine, and "
                    "compute.engine=deepspeed does so by itself; leave one of the two out"
                )
            if self.optimizer.name != "adamw":
                problems.append(
                    f"compute.engine=deepspeed drives adamw, not optimizer.name="
                    f"{self.optimizer.name}; take torch's engine, whose compute.zero1 shares it"
                )
        elif compute.deepspeed_config is not None:
            problems.append("compute.deepspeed_config needs compute.engine=deepspeed")
        if problems:
            refuse(problems)
        return self
