"""Rented machines: how many of which card, how much of its peak a run reaches, and its rent.

The MFU figures are estimates from public runs, but for the H100's and H200's, which this project
measured on one card; the rents were read on providers' pages. Every one carries its source. Where
no source was found there is no figure, and the hours or dollars that need it are None.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from difflib import get_close_matches

from yxanul.cards import CARDS, GB, Card, card_of_device
from yxanul.config.optimization import CPU_MICRO_BATCH_TOKENS, LOSS_CHUNK_TOKENS
from yxanul.config.schema import RunConfig
from yxanul.errors import UsageError
from yxanul.plan.flops import recomputed_share
from yxanul.plan.memory import recomputing_on

# Width decides the MFU: the precedents behind the estimates are 768 channels wide and wider.
NARROWEST = 768
SMALLEST_MFU = 0.001
SMALLEST_RENT = 0.01
LARGEST_RENT = 10_000.0
LARGEST_BUDGET = 1e12
# What is left of the speed when all blocks are recomputed, in micro-batches of 8,192 tokens: 79,207
# of 149,341 tokens/s on an H200 (benchmarks/results/2026-11-26-nvidia-h200.md).
RECOMPUTED_SPEED = 0.53


@dataclass(frozen=True, slots=True)
class Assumption:
    """A figure that was assumed: the likely value, its range, and where they come from."""

    value: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class Machine:
    """`count` equal cards; MFU (0 to 1, PaLM convention) and $ per GPU-hour, or None with why."""

    count: int
    card: Card
    mfu: Assumption | None
    usd_per_gpu_hour: Assumption | None
    why_unknown: str | None

    @property
    def name(self) -> str:
        """How --gpus writes it: 8xA100-80GB."""
        return f"{self.count}x{self.card.name}"

    @property
    def peak_flops(self) -> float:
        """Dense bf16 FLOP/s of all cards together."""
        return self.count * self.card.dense_bf16_flops


@dataclass(frozen=True, slots=True)
class TimedUpdate:
    """One update of the plan's model, as it was timed alone on a card or a CPU."""

    flops_per_token: float
    """PaLM convention."""
    token_s: float
    """Seconds of a token's forward and backward pass."""
    optimizer_s: float
    """Of the optimizer's step, which comes once an update, however many passes that has."""


@dataclass(frozen=True, slots=True)
class Own:
    """A card or a CPU that was measured; it is planned with as one machine, or as several cards."""

    card: Card
    updates: tuple[TimedUpdate, ...]
    source: str
    precision: str
    is_cpu: bool

    def mfu(self, config: RunConfig, *, count: int) -> Assumption:
        """Return the MFU of updates as large as the run's, shared out among `count` of them."""
        steps = sum(stage.training.steps for stage in config.stages)
        tokens = sum(stage.training.total_tokens for stage in config.stages)
        shares = [
            one.flops_per_token
            / (one.token_s + one.optimizer_s * count * steps / tokens)
            / self.card.dense_bf16_flops
            for one in self.updates
        ]
        return Assumption(statistics.median(shares), min(shares), max(shares), self.source)

    def settled(self, config: RunConfig) -> RunConfig:
        """Return the configuration with the choices that a run makes on such a machine."""
        compute = config.optimization.compute
        chosen: dict[str, object] = {"precision": self.precision}
        if self.is_cpu:
            chosen["loss_chunk_tokens"] = compute.loss_chunk_tokens or LOSS_CHUNK_TOKENS["cpu"]
            chosen["micro_batch_tokens"] = compute.micro_batch_tokens or CPU_MICRO_BATCH_TOKENS
            if compute.attention == "auto":
                chosen["attention"] = "by_length"
            if compute.compile == "auto":
                chosen["compile"] = "off"
        compute = compute.model_copy(update=chosen)
        optimization = config.optimization.model_copy(update={"compute": compute})
        return config.model_copy(update={"optimization": optimization})


_HOW_A100 = "estimate from llm.c's 350M (62 %) and 124M (60 %) on 8xA100"
_HOW_H100 = (
    "measured on one H100 SXM, 27 Nov 2026 (docs/performance.md): 41.9 % at 512 tokens, 45.7 % at "
    "2,048, 49.1 % at 4,096; eight cards were not"
)
_HOW_H200 = (
    "measured on one H200, 26 Nov 2026 (docs/performance.md): 45.3 % at 512 tokens, 48.6 % at "
    "2,048, 52.1 % at 4,096"
)
_MFU = {
    "A100-40GB": Assumption(0.55, 0.52, 0.60, _HOW_A100),
    "A100-80GB": Assumption(0.55, 0.52, 0.60, _HOW_A100),
    "H100": Assumption(0.46, 0.40, 0.49, _HOW_H100),
    "H200": Assumption(0.49, 0.45, 0.52, _HOW_H200),
}
# The likely rent is the middle of the ordinary offers; the low end is interruptible.
_RENT = {
    "A100-80GB": Assumption(
        1.60, 0.86, 2.50, "providers' pages, 22 Nov 2026: 0.86 spot, 1.3-1.9 typical, up to 2.5"
    ),
    "H100": Assumption(
        2.51,
        1.52,
        3.00,
        "providers' pages, 22 Nov 2026: 1.52 Vast spot, 2.23 CoreWeave class, 2.69-2.79 RunPod "
        "Secure; nanochat's README about 3",
    ),
}
# What the plan shows when nobody chose: the promised machines, one of their cards, then the rest.
_SHOWN_FIRST = ((8, "A100-80GB"), (8, "H100"), (1, "A100-80GB"), (1, "H100"))
PROMISED = "8xA100-80GB"
FASTER = "8xH100"
_CARD = {card.name: card for card in CARDS}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user said about the machine and the money; None = not said."""

    gpus: str | None = None
    mfu: float | None = None
    usd_per_gpu_hour: float | None = None
    budget_usd: float | None = None
    own: Own | None = None
    """A machine that was measured, instead of the table's or, with `gpus`, for the MFU of these."""

    def __post_init__(self) -> None:
        """Refuse figures that no machine has; a `UsageError` names the flag."""
        if self.mfu is not None:
            _check_mfu(self.mfu)
            if self.own is not None:
                raise UsageError("--mfu and --measured both say the MFU; leave one out")
        if self.budget_usd is not None and not 0 < self.budget_usd <= LARGEST_BUDGET:
            raise UsageError(
                f"--budget_usd {self.budget_usd:g} is not a budget; write dollars, more than 0 and "
                f"at most {LARGEST_BUDGET:,.0f}, e.g. --budget_usd 200"
            )
        if self.usd_per_gpu_hour is not None:
            _check_rent(self.usd_per_gpu_hour)
            if self.gpus is None and self.own is None:
                raise UsageError(
                    "--usd_per_gpu_hour is the rent of one kind of card, and none is named; "
                    f"add --gpus, e.g. --gpus {PROMISED}"
                )


def machine(config: RunConfig, gpus: str, *, wishes: Wishes | None = None) -> Machine:
    """Return the machine that `gpus` names, with the assumptions that hold for `config`.

    `wishes` replaces MFU and rent. An unknown card or a bad count is a `UsageError`.
    """
    wishes = wishes or Wishes()
    count, card = parse_gpus(gpus)
    mfu, why = _assumed_mfu(recomputing_on(config, card.memory_bytes, processes=count), card)
    if wishes.mfu is not None:
        mfu, why = _exactly(wishes.mfu, "--mfu"), None
    elif wishes.own is not None:
        mfu, why = _of_own(wishes.own, card, config=config, count=count), None
    rent = _RENT.get(card.name)
    if wishes.usd_per_gpu_hour is not None:
        rent = _exactly(wishes.usd_per_gpu_hour, "--usd_per_gpu_hour")
    if why is None and rent is None:
        why = f"no rent of {card.name} was found; give --usd_per_gpu_hour with --gpus"
    return Machine(count, card, mfu, usd_per_gpu_hour=rent, why_unknown=why)


def shown_machines(config: RunConfig, wishes: Wishes) -> tuple[Machine, ...]:
    """Return the machines of the comparison: the chosen one alone, or all cards of the table."""
    if wishes.gpus is not None:
        return (machine(config, wishes.gpus, wishes=wishes),)
    if wishes.own is not None:
        return (_alone(wishes.own, config, usd_per_hour=wishes.usd_per_gpu_hour),)
    first = [f"{count}x{name}" for count, name in _SHOWN_FIRST]
    rest = [f"1x{card.name}" for card in CARDS if f"1x{card.name}" not in first]
    return tuple(machine(config, name, wishes=wishes) for name in (*first, *rest))


def parse_gpus(text: str) -> tuple[int, Card]:
    """Read "8xA100-80GB" or "H100"; anything else is a `UsageError` that names the known cards."""
    match = re.fullmatch(r"\s*(?:([0-9]+)\s*[xX]\s*)?([A-Za-z0-9].*?)\s*", text, re.DOTALL)
    count, word = (match[1] or "1", match[2]) if match else ("1", text)
    if len(count) > 5 or int(count) < 1:
        raise UsageError(f"--gpus {text!r}: the count must be from 1 to 99,999, e.g. {PROMISED}")
    return int(count), _find_card(word, text)


def _find_card(word: str, text: str) -> Card:
    if word.lower() == "cpu":
        raise UsageError(
            f"--gpus {text!r}: no two CPUs are alike, so the table has none; `yxanul bench step "
            "--config_dir DIR --model FILE --json` measures yours for --measured, and `yxanul "
            "preflight` a model whose step takes seconds there"
        )
    names = {_plain(name): card for name, card in _CARD.items()}
    wanted = _plain(word)
    if wanted in names:
        return names[wanted]
    kinds = [card.name for plain, card in names.items() if wanted and plain.startswith(wanted)]
    if kinds:
        choice = " or ".join(kinds)
        raise UsageError(f"--gpus {text!r} does not say which card: write {choice}")
    # What nvidia-smi prints, or a provider's list, with the size of its memory or without.
    device = re.sub(r"[\s_-]+", " ", word)
    card = card_of_device(device)
    size = re.search(r"\b([0-9]+) ?GB\b", device, re.IGNORECASE)
    if card is not None and (size is None or card.memory_bytes in (None, GB * float(size[1]))):
        return card
    near = get_close_matches(wanted, names, n=1)
    hint = f" (did you mean {names[near[0]].name}?)" if near else ""
    raise UsageError(
        f"--gpus {text!r} names no card that this program knows{hint}; write a count, an x and one "
        f"of {', '.join(_CARD)}, e.g. {PROMISED}"
    )


def _plain(name: str) -> str:
    """RTX 4090, rtx4090 and NVIDIA RTX-4090 are one card; H100-SXM is what H100 means here."""
    plain = re.sub(r"[\s_-]", "", name.lower()).removeprefix("nvidia").removeprefix("geforce")
    return plain.removeprefix("rtx").removesuffix("sxm")


def _assumed_mfu(config: RunConfig, card: Card) -> tuple[Assumption | None, str | None]:
    """Return the table's MFU where its precedents speak for this configuration, else why not."""
    assumed, compute = _MFU.get(card.name), config.optimization.compute
    if assumed is None:
        return None, f"no run of such a model on {card.name} was found; give --mfu"
    if config.model.hidden_size < NARROWEST:
        return None, (
            f"the MFU estimates are for models {NARROWEST} channels wide and wider, and this one "
            f"has {config.model.hidden_size}; give --mfu"
        )
    if compute.precision == "fp32":
        return None, "the MFU estimates are for bf16, and compute.precision is fp32; give --mfu"
    if not compute.gradient_checkpointing:
        return assumed, None
    # MFU counts no recomputation, so a run that recomputes reaches less of it: by the operations at
    # best, and small micro-batches, which wait for the host, by what was measured.
    layers = config.model.num_hidden_layers
    share = compute.checkpointed_blocks(layers) / layers
    kept = 1 / (1 + share * recomputed_share(config.model, config.stages))
    least = 1 - share * (1 - RECOMPUTED_SPEED)
    return Assumption(
        kept * assumed.value,
        least * assumed.low,
        kept * assumed.high,
        f"{assumed.source}, x {kept:.2f} for gradient checkpointing by its operations, x "
        f"{least:.2f} at worst, as an H200 did it",
    ), None


def _of_own(own: Own, card: Card, *, config: RunConfig, count: int) -> Assumption:
    """Return a measured MFU for several cards; it speaks for the card that was measured only."""
    if own.card != card:
        raise UsageError(
            f"--measured is of {own.card.name}, and --gpus names {card.name}; measure that one, or "
            "leave --gpus out"
        )
    return own.mfu(config, count=count)


def _alone(own: Own, config: RunConfig, *, usd_per_hour: float | None) -> Machine:
    rent = None if usd_per_hour is None else _exactly(usd_per_hour, "--usd_per_gpu_hour")
    name = own.card.name
    why = f"no rent of {name} is known; give --usd_per_gpu_hour, 0 for a machine of your own"
    return Machine(
        1,
        own.card,
        own.mfu(config, count=1),
        usd_per_gpu_hour=rent,
        why_unknown=why if rent is None else None,
    )


def _exactly(value: float, flag: str) -> Assumption:
    return Assumption(value, value, value, f"given with {flag}")


def _check_mfu(mfu: float) -> None:
    share = min(mfu, 99) / 100
    if 1 <= mfu <= 100:
        raise UsageError(
            f"--mfu {mfu:g} is not below 1: it is a share of the card's peak; for {mfu:g} % write "
            f"--mfu {f'{share:.2f}' if round(share, 2) == share else f'{share:g}'}"
        )
    if not SMALLEST_MFU <= mfu < 1:  # nan is outside, too
        raise UsageError(
            f"--mfu {mfu:g} is not a share of the card's peak; write a number from "
            f"{SMALLEST_MFU:g} to below 1, e.g. --mfu 0.40"
        )


def _check_rent(usd: float) -> None:
    if usd != 0 and not SMALLEST_RENT <= usd <= LARGEST_RENT:  # nan is outside, too
        raise UsageError(
            f"--usd_per_gpu_hour {usd:g} is not a rent; write dollars per hour of one card, from "
            f"{SMALLEST_RENT} to {LARGEST_RENT:,.0f}, or 0 for a card of your own"
        )
