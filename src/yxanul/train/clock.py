"""Time inside steps only; scoring and saving are counted apart."""

import time


class StepClock:
    """Counts the seconds, tokens and FLOPs of the steps that this process has done."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.flops = 0.0
        self.tokens = 0
        self.steps = 0
        self.step_s = 0.0
        """Seconds of the last step."""
        self._begin = 0.0

    def begin(self) -> None:
        """Start a step."""
        self._begin = time.perf_counter()

    def end(self, tokens: int, flops_per_token: float) -> None:
        """End a step of `tokens` tokens over all ranks."""
        self.step_s = time.perf_counter() - self._begin
        self.seconds += self.step_s
        self.steps += 1
        self.tokens += tokens
        self.flops += tokens * flops_per_token

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second over all ranks; None before the first step."""
        return self.tokens / self.seconds if self.seconds else None

    def mfu(self, peak_flops: float | None) -> float | None:
        """Share of the peak, 0 to 1, PaLM convention; None without a known peak or a step."""
        return self.flops / self.seconds / peak_flops if peak_flops and self.seconds else None
