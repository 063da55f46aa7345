"""Which attention kernel a card trains with: those that it can run are timed once, at the start."""

from collections.abc import Sequence

from yxanul.config.schema import ComputeConfig, ModelConfig
from yxanul.hardware.choices import flash3_obstacle, has_sound_cudnn
from yxanul.model.flash import use_version
from yxanul.train.machine import Machine
from yxanul.train.timing import attention_ms

_KERNELS = ("cudnn", "flash", "flash3", "efficient")
_DOCUMENT_TOKENS = 512  # about what a page of the web has


def time_kernels(
    wish: ComputeConfig,
    found: ComputeConfig,
    *,
    shape: ModelConfig,
    seq_len: int,
    machine: Machine,
) -> ComputeConfig:
    """Return `found` with the fastest attention kernel, where `wish` leaves it open on a card."""
    if wish.attention != "auto" or wish.flash_attention_3 is True or found.precision != "bf16":
        return found
    obstacle = flash3_obstacle(machine.device) if wish.flash_attention_3 == "auto" else ""
    # All ranks time the same ones: one with other packages would wait for the others elsewhere.
    lacks_3 = machine.processes.anyone(obstacle is not None, machine.device)
    kernel = fastest_kernel(
        candidate_kernels(found, has_version_3=not lacks_3),
        shape,
        seq_len=seq_len,
        machine=machine,
        document_tokens=_DOCUMENT_TOKENS if found.document_masking else None,
    )
    return found.model_copy(update={"attention": kernel, "flash_attention_3": kernel == "flash3"})


def candidate_kernels(found: ComputeConfig, *, has_version_3: bool) -> tuple[str, ...]:
    """Return the kernels that are worth timing on a card in bf16, the most likely first."""
    kernels = ["cudnn"] if has_sound_cudnn() and not found.document_masking else []
    return (*kernels, "flash", *(["flash3"] if has_version_3 else []))


def fastest_kernel(
    names: Sequence[str],
    shape: ModelConfig,
    *,
    seq_len: int,
    machine: Machine,
    document_tokens: int | None = None,
) -> str:
    """Return the kernel that is fastest, forward and backward, on the main process' card.

    One that cannot run on every card is told and left out; efficient is what runs everywhere.
    Documents are as in `attention_ms`.
    """
    device, say, processes = machine.device, machine.progress.say, machine.processes
    times: dict[str, float] = {}
    for name in names:
        why = "it fails on another process"
        try:
            times[name] = attention_ms(
                name, shape, seq_len=seq_len, device=device, document_tokens=document_tokens
            )[1]
        except (ImportError, OSError, RuntimeError) as error:
            why = next(iter(str(error).splitlines()), repr(error))
        if processes.anyone(name not in times, device):
            times.pop(name, None)
            say(f"attention kernel {name}: {why}")
    use_version(2)  # whichever is chosen asks for its own
    told = ", ".join(f"{name} {ms:.2f} ms" for name, ms in times.items()) or "efficient is taken"
    say(f"attention over {seq_len:,} tokens, forward and backward: {told}")
    best = min(times, key=times.__getitem__) if times else "efficient"
    return _KERNELS[processes.of_main(_KERNELS.index(best), device)]
