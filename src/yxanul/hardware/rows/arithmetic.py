"""Rows about how the arithmetic is done: type, attention, loss, compilation."""

from yxanul.config.optimization import CARD_PATHS, MASKLESS, PLAIN_UP_TO
from yxanul.config.schema import ComputeConfig
from yxanul.hardware.choices import (
    BF16_FLAGS,
    attention_by_rule,
    attention_obstacle,
    leaves_kernel_open,
    precision_by_rule,
)
from yxanul.hardware.compiler import c_compiler, compile_obstacle, cxx_compiler
from yxanul.hardware.device import cpu_flags
from yxanul.hardware.feature import Case, Feature
from yxanul.hardware.peak import GEMM_FLOPS

_PATHS = {
    "plain": "two matrix products and a softmax",
    "sdpa": "torch's scaled dot product attention, kernel left to torch",
    "by_length": f"plain up to {PLAIN_UP_TO:,} tokens, torch's kernel for longer rows",
    "cudnn": "torch's scaled dot product attention, cuDNN's kernel or an error",
    "flash": "torch's FlashAttention 2 or an error",
    "flash3": "FlashAttention 3's package or an error",
    "efficient": "torch's scaled dot product attention, its memory-efficient kernel or an error",
}
# A difference between two short measurements on a machine in use means nothing below this.
_FASTER = 1.2


def precision(case: Case) -> Feature:
    """The type of matrix products, with the measured rates of both on a CPU."""
    chosen, rule = case.optimization.compute.precision, precision_by_rule(case.device)
    why = f"as configured; the rule would take {rule}"
    if chosen == rule:
        why = _precision_rule(case)
    if case.rates:
        why += f". Measured: {_measured(case)}"
        other = "fp32" if chosen == "bf16" else "bf16"
        if case.rates[other] > _FASTER * case.rates[chosen]:
            why += f"; compute.precision={other} has the faster products here"
    return Feature("precision", "active", why, choice=chosen)


def _precision_rule(case: Case) -> str:
    if case.device.type == "cuda":
        chosen = case.optimization.compute.precision
        return f"the card {'multiplies' if chosen == 'bf16' else 'has no'} bf16"
    found = sorted(cpu_flags() & BF16_FLAGS)
    if found:
        return f"the CPU multiplies it ({', '.join(found)})"
    return "the CPU is not known to multiply bf16"


def _measured(case: Case) -> str:
    """Return "683 GFLOP/s (14 ms a product) in bf16, ..." for both types."""
    parts = [
        f"{rate / 1e9:,.0f} GFLOP/s in {name} ({1e3 * GEMM_FLOPS / rate:,.0f} ms)"
        for name, rate in case.rates.items()
    ]
    return f"{' and '.join(parts)}, for (2048, 768) x (768, 3072)"


def attention(case: Case) -> Feature:
    """The attention path of training."""
    compute, stages = case.optimization.compute, case.stages
    obstacle = attention_obstacle(compute, case.device)
    if obstacle is not None:
        return Feature("attention", "unavailable", obstacle, choice=compute.attention, asked=True)
    lengths = [phase.seq_len for s in stages for phase in s.training.seq_len_curriculum]
    longest = max(lengths, default=PLAIN_UP_TO)
    rule = attention_by_rule(compute, case.device, longest_seq_len=longest)
    if _is_timed(case):
        why = (
            "a run's first start times the kernels that this card has, and pins the fastest; the "
            f"rule would take {rule}"
        )
        return Feature("attention", "active", why, choice="auto")
    why = _PATHS[compute.attention]
    on_card = case.device.type == "cuda"
    if compute.attention == rule:
        why += ", as the rule has it" if on_card else f", by rule for up to {longest:,} tokens"
    else:
        how = "as configured or as timed at the first start" if on_card else "as configured"
        why += f", {how}; the rule would take {rule}"
    return Feature("attention", "active", why, choice=compute.attention)


def kernels(case: Case) -> Feature:
    """The attention kernels that can be pinned on a card."""
    name, names = "pinned attention kernel", "cudnn, flash, flash3 or efficient"
    chosen = case.optimization.compute.attention
    if case.device.type != "cuda":
        return Feature(name, "unavailable", f"compute.attention={names} needs a CUDA card")
    obstacle = attention_obstacle(case.optimization.compute, case.device)
    if obstacle is not None:
        return Feature(name, "unavailable", obstacle, choice=chosen, asked=True)
    if _is_timed(case):
        why = "the fastest, as a run's first start times them"
        return Feature(name, "available", why, choice="auto")
    if chosen in CARD_PATHS:
        return Feature(name, "active", "pinned: another kernel is an error", choice=chosen)
    return Feature(name, "available", f"compute.attention pins {names}")


def _is_timed(case: Case) -> bool:
    """Tell whether the kernel is still to be found, on a card, by a run's first start."""
    on_card = case.device.type == "cuda"
    return on_card and leaves_kernel_open(case.left_open, case.optimization.compute)


def compilation(case: Case) -> Feature:
    """torch.compile, and whether its compiler is there."""
    how = case.optimization.compute.compile
    obstacle = compile_obstacle(case.device)
    if obstacle is not None:
        return Feature("torch.compile", "unavailable", obstacle, asked=how != "off")
    on_card = case.device.type == "cuda"
    compiler = f"triton and {c_compiler()}" if on_card else cxx_compiler()
    if how == "off":
        return Feature(
            "torch.compile", "available", f"set compute.compile=block; it uses {compiler}"
        )
    on = "each block" if how == "block" else "the whole model"
    return Feature("torch.compile", "active", f"on {on}, by {compiler}", choice=how, asked=True)


def chunked_loss(case: Case) -> Feature:
    """Cross-entropy that never holds all logits."""
    tokens = case.optimization.compute.loss_chunk_tokens
    why = f"logits of at most {tokens:,} tokens at a time, their gradient formed in the same pass"
    return Feature("chunked loss", "active", why)


def document_masking(case: Case) -> Feature:
    """Rows of several documents, each of which sees itself only."""
    if not case.optimization.compute.document_masking:
        why = "compute.document_masking=true lets a token look at its own document only"
        return Feature("document masking", "available", why)
    how = "by a mask over whole rows"
    if case.optimization.compute.attention in MASKLESS:
        how = "each is read by itself, without a mask"
    why = f"a token looks at its own document only: {how}"
    return Feature("document masking", "active", why, asked=True)


def gradient_checkpointing(case: Case) -> Feature:
    """Blocks computed again in the backward pass."""
    compute: ComputeConfig = case.left_open
    name = "gradient checkpointing"
    if compute.gradient_checkpointing:
        share = compute.checkpointed_share
        blocks = "as few blocks as fit a card" if share is None else f"{share:.0%} of the blocks"
        why = f"{blocks} are computed again in the backward pass: less memory, more work"
        return Feature(name, "active", why, asked=True)
    why = (
        "compute.gradient_checkpointing=true needs less memory and a quarter more arithmetic; an "
        "H200 trained at half its speed with it"
    )
    return Feature(name, "available", why)
