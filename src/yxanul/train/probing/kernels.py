"""Which attention kernel a card trains with: those that it can run are timed once, at the start."""

from collections.abc import Sequence

from yxanul.config.optimization import CARD_PATHS
from yxanul.config.schema import ComputeConfig, ModelConfig
from yxanul.hardware.choices import flash3_obstacle, has_sound_cudnn, leaves_kernel_open
from yxanul.model.flash import use_version
from yxanul.train.probing.timing import attention_ms
from yxanul.train.processes.machine import Machine

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

    # All ranks time the same ones: one of another machine would wait for the others elsewhere.
    def all_have(here: bool) -> bool:
        return not machine.processes.anyone(not here, machine.device)

    if not all_have(leaves_kernel_open(wish, found)):
        return found
    has_3 = wish.flash_attention_3 == "auto" and flash3_obstacle(machine.device) is None
    names = (
        *(("cudnn",) if all_have(has_sound_cudnn()) and not found.document_masking else ()),
        "flash",
        *(("flash3",) if all_have(has_3) else ()),
    )
    kernel = fastest_kernel(
        names,
        shape,
        seq_len=seq_len,
        machine=machine,
        document_tokens=_DOCUMENT_TOKENS if found.document_masking else None,
    )
    return found.model_copy(update={"attention": kernel, "flash_attention_3": kernel == "flash3"})


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
        except Exception as error:  # noqa: BLE001  (told; a package may raise anything)
            why = next(iter(str(error).splitlines()), repr(error))
        if processes.anyone(name not in times, device):
            times.pop(name, None)
            say(f"attention kernel {name}: {why}")
    use_version(2)  # whichever is chosen asks for its own
    told = ", ".join(f"{name} {ms:.2f} ms" for name, ms in times.items()) or "efficient is taken"
    say(f"attention over {seq_len:,} tokens, forward and backward: {told}")
    best = min(times, key=times.__getitem__) if times else "efficient"
    return CARD_PATHS[processes.of_main(CARD_PATHS.index(best), device)]
