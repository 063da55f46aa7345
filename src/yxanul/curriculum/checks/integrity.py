"""G0: is what was saved what was trained?"""

from dataclasses import dataclass

from yxanul.curriculum.checks.check import Check


@dataclass(frozen=True)
class Integrity:
    """What the machine found when it read the stage's last checkpoint back."""

    checkpoint: str
    weights_equal: bool
    """Every sha256 is right, and the weights on disk are the ones in memory, bit for bit."""
    loss: float
    """Nats per token of a fixed batch, by the weights in memory."""
    loss_again: float
    """The same, computed again."""
    loss_tolerance: float
    """How far the two may differ, relative: 0 on a CPU."""
    tokens_seen: int
    tokens_in_ledger: int
    """Tokens up to here by the data order: sources of this stage and the stages before."""
    scorer_error: float
    """Relative difference between the scorer and a plain log-softmax on one window."""
    scorer_tolerance: float


def integrity_check(found: Integrity | None) -> Check:
    """G0: everything must hold, else the run stops."""
    if found is None:
        return Check("G0", None, "not run", "nothing was read back")
    gap = abs(found.loss_again - found.loss)
    wrong = [
        text
        for holds, text in (
            (found.weights_equal, f"{found.checkpoint} does not hold the weights in memory"),
            (
                gap <= found.loss_tolerance * abs(found.loss),
                f"the loss of a fixed batch is {found.loss!r} and then {found.loss_again!r}",
            ),
            (
                found.tokens_seen == found.tokens_in_ledger,
                f"{found.tokens_seen:,} tokens were counted, {found.tokens_in_ledger:,} planned",
            ),
            (
                found.scorer_error <= found.scorer_tolerance,
                f"the scorer is {found.scorer_error:.2%} off a plain log-softmax",
            ),
        )
        if not holds
    ]
    if wrong:
        return Check("G0", None, "fail", "; ".join(wrong), "stop")
    told = f"{found.checkpoint} reads back, its loss repeats, {found.tokens_seen:,} tokens add up"
    return Check("G0", None, "pass", told)
