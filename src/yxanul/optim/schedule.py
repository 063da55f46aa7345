"""Learning rates over a stage, as a factor of the stage's peak; pure, and free of torch.

`linear_to_zero`: warm-up, then straight to zero (arXiv 2502.15938). `wsd`: warm-up, stable, then
linear to zero over the last `decay_fraction` (arXiv 2404.06395). Every stage has its own peak and
its own short warm-up. A stage that its gate lengthens goes on in the way of its schedule: a
`linear_to_zero` one by a cycle of its own, re-warmed to a part of the peak and back to zero; a
`wsd` one stays at the peak longer before the same decay.
"""

from collections.abc import Sequence

from yxanul.config.schema import TrainingConfig
from yxanul.curriculum.stages import wsd_decay_steps

EXTENSION_PEAK = 0.3  # of the stage's peak: the cycle must not undo what the stage has learned


def learning_rate_factor(
    training: TrainingConfig, step: int, *, total_steps: int, extensions: Sequence[int] = ()
) -> float:
    """Return the factor in (0, 1] of update number `step` of the stage, from 0.

    total_steps: those of the settings. extensions: the stage step at which each extension ends.
    A step outside the stage is a ValueError.
    """
    end = extensions[-1] if extensions else total_steps
    if not 0 <= step < end:
        raise ValueError(f"step {step} is outside the stage's {end} steps")
    if training.schedule == "linear_to_zero" and step >= total_steps:
        borders = (total_steps, *extensions)
        cycle = sum(step >= border for border in borders)
        first, last = borders[cycle - 1], borders[cycle]
        return EXTENSION_PEAK * _linear_to_zero(training, step - first, steps=last - first)
    if training.schedule == "linear_to_zero":
        return _linear_to_zero(training, step, steps=total_steps)
    falling = (end - step) / wsd_decay_steps(training, total_steps)
    return min(1.0, _rising(step, round(training.warmup_fraction * total_steps)), falling)


def _linear_to_zero(training: TrainingConfig, step: int, *, steps: int) -> float:
    warmup_steps = round(training.warmup_fraction * steps)
    falling = (steps - step) / max(1, steps - warmup_steps)
    return min(1.0, _rising(step, warmup_steps), falling)


def _rising(step: int, warmup_steps: int) -> float:
    return (step + 1) / (warmup_steps + 1)
