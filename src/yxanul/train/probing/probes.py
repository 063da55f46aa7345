"""What a run tries on a card before its first start: kernels, micro-batch, checkpointing, FP8.

Rules say what should be fast and what should fit; a card is asked, once, because wheels and memory
differ. What was found is frozen into RUN/config.yaml (docs/decisions.md). On a CPU rules decide
alone, so that the same machine always chooses the same.
"""

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from yxanul.config.schema import ComputeConfig, ModelConfig, OptimizationConfig, RunConfig
from yxanul.data.batches.loader import StepRows
from yxanul.errors import UsageError, first_line
from yxanul.hardware.choices import fp8_obstacle
from yxanul.hardware.device import memory_bytes
from yxanul.hardware.memory import is_out_of_memory
from yxanul.optim.optimizers import LearningRates
from yxanul.parallel.processes import ALONE
from yxanul.plan.memory import CARD_SHARE, ENOUGH_TOKENS, MOST_TOKENS, largest_micro_batch
from yxanul.train.probing.kernels import time_kernels
from yxanul.train.probing.timing import milliseconds
from yxanul.train.processes.machine import Machine
from yxanul.train.updates.engine import build_engine
from yxanul.train.updates.step import StepResult, train_step

Agree = Callable[[bool], bool]
_FP8_PARTS = ("off", "ffn", "blocks")
_WORTH = 1.03  # FP8 rounds every product: less than 3 % of speed is not worth it


def probe_card(
    wish: ComputeConfig, config: RunConfig, *, seq_len: int, machine: Machine
) -> ComputeConfig:
    """Return the settings of `config`, chosen by rule, with what `wish` left open as measured here.

    seq_len is the run's longest. A card that not even one sequence fits is a `UsageError`.
    """
    found = config.optimization.compute
    if machine.device.type != "cuda":
        return found
    # Each trial takes a cuBLAS without a handle for a full card: on an empty one it is broken.
    with torch.cuda.device(machine.device):
        torch.cuda.current_blas_handle()  # type: ignore[no-untyped-call]
    found = time_kernels(wish, found, shape=config.model, seq_len=seq_len, machine=machine)
    cards = _Cards(config, seq_len, machine)
    found = _fitted(wish, found, cards=cards)
    if wish.fp8 == "auto":
        found = found.model_copy(update={"fp8": _fastest_fp8(found, cards=cards)})
    return found


def with_compute(config: RunConfig, compute: ComputeConfig) -> RunConfig:
    """Return the configuration with other settings of the arithmetic."""
    optimization = config.optimization.model_copy(update={"compute": compute})
    return config.model_copy(update={"optimization": optimization})


def largest_that_fits(
    first: int,
    need: Callable[[int], float],
    *,
    limit: float,
    smallest: int,
    agree: Agree,
    advice: str | None = None,
) -> int:
    """Return the first of `first`, its half, its quarter, ... that needs at most `limit` bytes.

    Each is whole sequences of `smallest` tokens, as a forward pass is. `agree` makes one answer of
    all processes': too much for one is too much. Where not even one sequence fits, it is a
    `UsageError` with the setting that may help, if there is one.
    """
    tokens = first_that_fits(halves(first, smallest), need, limit=limit, agree=agree)
    if tokens is None:
        raise UsageError(
            f"one sequence of {smallest:,} tokens does not fit this card with "
            f"{1 - CARD_SHARE:.0%} to spare: {f'set {advice}, ' if advice else ''}shorten "
            "training.seq_len_curriculum, or take a smaller model"
        )
    return tokens


def halves(first: int, smallest: int) -> Iterator[int]:
    """Yield `first`, its half, its quarter, ... in whole sequences of `smallest` tokens."""
    tokens = max(first // smallest * smallest, smallest)
    while tokens > smallest:
        yield tokens
        tokens = max(tokens // 2 // smallest * smallest, smallest)
    yield smallest


def first_that_fits(
    sizes: Iterable[int], need: Callable[[int], float], *, limit: float, agree: Agree
) -> int | None:
    """Return the first of `sizes` that needs at most `limit` bytes on every process, by `agree`."""
    return next((tokens for tokens in sizes if not agree(need(tokens) > limit)), None)


def trial_passes(tokens: int, step_tokens: int, *, processes: int) -> int:
    """Return the micro-batches of an update of a trial: one, or two to hold gradients through one.

    `tokens` are those of a micro-batch, `step_tokens` those of a process' step. Where several
    processes exchange gradients, they are held all the time.
    """
    return 2 if tokens < step_tokens or processes > 1 else 1


def trial_bytes(
    shape: ModelConfig,
    optimization: OptimizationConfig,
    *,
    seq_len: int,
    device: torch.device,
    passes: int = 1,
) -> float:
    """Return the most bytes that a run's process will hold, by two updates of it alone.

    More than there is: infinity. The model is thrown away.
    """
    _free(device)
    try:
        _train_twice(
            trial_update(shape, optimization, seq_len=seq_len, device=device, passes=passes)
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        held = math.inf
    else:
        held = float(torch.cuda.max_memory_reserved(device))
    _free(device)
    return held


@dataclass(frozen=True)
class _Cards:
    """The cards of a run's processes: what is tried on them has to fit each."""

    config: RunConfig
    seq_len: int
    machine: Machine

    @property
    def limit(self) -> float:
        """The most bytes that may be held of this process' card."""
        return CARD_SHARE * memory_bytes(self.machine.device)

    @property
    def step_tokens(self) -> int:
        """The tokens of a process' part of the largest step."""
        return _step_tokens(self.config, self.machine.processes.world_size)

    def agree(self, flag: bool) -> bool:
        """Return whether any process says so."""
        return self.machine.processes.anyone(flag, self.machine.device)

    def first_try(self, compute: ComputeConfig) -> int:
        """Return the tokens that all processes try first: a plan knows its own card only."""
        first = first_tokens(
            with_compute(self.config, compute),
            seq_len=self.seq_len,
            card_bytes=memory_bytes(self.machine.device),
            processes=self.machine.processes.world_size,
        )
        return self.machine.processes.smallest(first, self.machine.device)

    def bytes_with(self, compute: ComputeConfig, **changed: float) -> float:
        """Return the bytes that a process of the run will hold with `compute`, so `changed`."""
        tried = compute.model_copy(update=changed)
        passes = trial_passes(
            tried.micro_batch_tokens or self.seq_len,
            self.step_tokens,
            processes=self.machine.processes.world_size,
        )
        optimization = with_compute(self.config, tried).optimization
        return trial_bytes(
            self.config.model,
            optimization,
            seq_len=self.seq_len,
            device=self.machine.device,
            passes=passes,
        )


def _fitted(wish: ComputeConfig, found: ComputeConfig, *, cards: _Cards) -> ComputeConfig:
    """Return `found` with what `wish` leaves open of what a card's memory decides.

    Where both the micro-batch and the share of recomputed blocks are open, blocks are recomputed
    only for what a micro-batch has to have: more of it brings less than that costs.
    """
    layers, say = cards.config.model.num_hidden_layers, cards.machine.progress.say
    open_tokens, open_share = wish.micro_batch_tokens is None, wish.is_share_open
    blocks = tokens = None
    if open_tokens and open_share:
        spared = found.model_copy(update={"checkpointed_share": 1 / layers})
        tokens = _enough_tokens(spared, cards=cards)
        blocks = None if tokens is None else 1
    if open_tokens and tokens is None:
        tokens = largest_that_fits(
            min(ENOUGH_TOKENS if open_share else MOST_TOKENS, cards.first_try(found)),
            lambda size: cards.bytes_with(found, micro_batch_tokens=size),
            limit=cards.limit,
            smallest=cards.seq_len,
            agree=cards.agree,
            advice=found.recompute_more,
        )
    if tokens is not None:
        say(f"a forward pass of {tokens:,} tokens fits the card, as tried")
        found = found.model_copy(update={"micro_batch_tokens": tokens})
    if open_share:
        blocks = blocks or least_that_fits(
            layers,
            lambda count: cards.bytes_with(found, checkpointed_share=count / layers),
            limit=cards.limit,
            agree=cards.agree,
        )
        say(f"{blocks} of {layers} blocks are recomputed, as tried")
        found = found.model_copy(update={"checkpointed_share": blocks / layers})
    return found


def _enough_tokens(spared: ComputeConfig, *, cards: _Cards) -> int | None:
    """Return the largest micro-batch that fits with next to nothing recomputed; None: too small."""
    enough = min(ENOUGH_TOKENS, cards.step_tokens)
    sizes = halves(cards.first_try(spared), cards.seq_len)
    return first_that_fits(
        # Of whole sequences a little less than enough is enough.
        [size for size in sizes if size > enough - cards.seq_len],
        lambda size: cards.bytes_with(spared, micro_batch_tokens=size),
        limit=cards.limit,
        agree=cards.agree,
    )


def first_tokens(config: RunConfig, *, seq_len: int, card_bytes: int, processes: int) -> int:
    """Return the tokens of the first micro-batch to try, at most those of a process' whole step.

    Twice what fits by arithmetic, since only smaller ones are tried after it: the plan does not
    know every kernel, nor FP8.
    """
    planned = largest_micro_batch(config, card_bytes, processes=processes) or seq_len
    return min(2 * planned, MOST_TOKENS, _step_tokens(config, processes))


def least_that_fits(most: int, need: Callable[[int], float], *, limit: float, agree: Agree) -> int:
    """Return the least of 1 to `most` that needs at most `limit` bytes; more of it needs less.

    `most` is known to fit, or nothing does. Halving finds it in few tries, and `agree` makes one
    answer of all processes'.
    """
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if agree(need(middle) > limit):
            low = middle + 1
        else:
            high = middle
    return high


def _step_tokens(config: RunConfig, processes: int) -> int:
    """Return the tokens of a process' part of the largest step."""
    return max(s.training.batch_tokens for s in config.stages) // processes


def _fastest_fp8(compute: ComputeConfig, *, cards: _Cards) -> str:
    """Return the part of the model whose products are worth rounding to FP8 here, or off."""
    device, say = cards.machine.device, cards.machine.progress.say
    obstacle = fp8_obstacle(compute, device)
    # All ranks time it or none: one of another machine would wait for the others elsewhere.
    if cards.agree(obstacle is not None):
        say(f"FP8 is off: {f'it {obstacle}' if obstacle else 'another process cannot have it'}")
        return "off"

    def time(part: str) -> float:
        tried = with_compute(cards.config, compute.model_copy(update={"fp8": part}))
        return update_ms(tried.model, tried.optimization, seq_len=cards.seq_len, device=device)

    times = times_of(_FP8_PARTS, time, agree=cards.agree, say=say)
    _free(device)  # what the last one left, if it failed
    told = ", ".join(f"{part} {ms:.1f} ms" for part, ms in times.items())
    say(f"FP8 ({compute.fp8_recipe}), one micro-batch forward and backward and its update: {told}")
    best = worth_rounding(times)
    return _FP8_PARTS[cards.machine.processes.of_main(_FP8_PARTS.index(best), device)]


def times_of(
    parts: Sequence[str],
    time: Callable[[str], float],
    *,
    agree: Agree,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Return {part: ms} of the parts that can be rounded on every process; why not is told.

    `agree` makes one answer of all processes': what fails on one is left out by all.
    """
    times: dict[str, float] = {}
    for part in parts:
        why = "it fails on another process"
        try:
            times[part] = time(part)
        except Exception as error:
            if part == "off":
                raise  # so would the run
            why = f"{type(error).__name__}: {first_line(error)}"
        if agree(part not in times):
            times.pop(part, None)
            say(f"FP8 in {part} is left out: {why}")
    return times


def worth_rounding(times: dict[str, float]) -> str:
    """Return the fastest part {part: ms}, or off where the gain would not pay for the rounding."""
    if "off" not in times:
        return "off"  # there is nothing to compare with
    best = min(times, key=times.__getitem__)
    return best if times["off"] / times[best] >= _WORTH else "off"


def update_ms(
    shape: ModelConfig, optimization: OptimizationConfig, *, seq_len: int, device: torch.device
) -> float:
    """Return the median milliseconds of an update of one micro-batch; the model is thrown away."""
    _free(device)
    update = trial_update(shape, optimization, seq_len=seq_len, device=device)
    ms = milliseconds(update, repeats=8)
    _free(device)
    return ms


def _train_twice(update: Callable[[], StepResult]) -> None:
    """Do two updates: the second one finds the moments in place. Nothing of them stays."""
    update()
    update()


def trial_update(
    shape: ModelConfig,
    optimization: OptimizationConfig,
    *,
    seq_len: int,
    device: torch.device,
    passes: int = 1,
) -> Callable[[], StepResult]:
    """Return what trains a new model on `passes` micro-batches of random tokens, at a rate of 0."""
    rows = passes * max(1, (optimization.compute.micro_batch_tokens or seq_len) // seq_len)
    tokens = np.random.default_rng(0).integers(0, shape.vocab_size, (2, rows, seq_len))
    # Alone, a process holds the whole optimizer's state: what fits so fits when ranks share it.
    alone = optimization.compute.model_copy(update={"engine": "torch", "zero1": False})
    settings = optimization.model_copy(update={"compute": alone})
    _, engine = build_engine(shape, settings, processes=ALONE, device=device)
    rates = LearningRates(0.0, 0.0, 0.0)
    return lambda: train_step(engine, StepRows.whole(tokens[0], tokens[1]), rates=rates)


def _free(device: torch.device) -> None:
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
