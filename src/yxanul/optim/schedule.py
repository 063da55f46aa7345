"""Learning rates over a stage, as a factor of the stage's peak; pure, and free of torch.

`linear_to_zero`: warm-up, then straight to zero (arXiv 2502.15938). `wsd`: warm-up, stable, then
linear to zero over the last `decay_fraction` (arXiv 2404.06395). Every stage has its own peak and
its own short warm-up.
"""

from yxanul.config.schema import TrainingConfig


def learning_rate_factor(training: TrainingConfig, step: int, *, total_steps: int) -> float:
    """Return the factor in (0, 1] of update number `step`, from 0 to `total_steps` - 1."""
    if not 0 <= step < total_steps:
        raise ValueError(f"step {step} is outside the stage's {total_steps} steps")
    warmup_steps = round(training.warmup_fraction * total_steps)
    rising = (step + 1) / (warmup_steps + 1)
    decay_steps = total_steps - warmup_steps
    if training.schedule == "wsd":
        decay_steps = max(1, min(decay_steps, round(training.decay_fraction * total_steps)))
    falling = (total_steps - step) / max(1, decay_steps)
    return min(1.0, rising, falling)
