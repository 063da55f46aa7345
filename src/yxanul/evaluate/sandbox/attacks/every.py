"""All attacks, by what they aim at."""

from yxanul.evaluate.sandbox.attacks import (
    on_files,
    on_kernel,
    on_limits,
    on_processes,
    on_proof,
)

ATTACKS = [
    *on_limits.ATTACKS,  # the slow ones first, so that the others fill the second worker's time
    *on_files.ATTACKS,
    *on_processes.ATTACKS,
    *on_kernel.ATTACKS,
    *on_proof.ATTACKS,
]
