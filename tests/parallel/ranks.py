"""A program for torchrun's ranks: one update on this rank's rows, its result in a file."""

import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.numpy import save_file
from torch import nn

from tests.model.tiny import model_with_norms, rows, shape
from yxanul.config.schema import ComputeConfig, NumericsConfig, OptimizerConfig
from yxanul.data.batches.loader import StepRows
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import (
    ConfigError,
    InfrastructureError,
    NumericsError,
    UsageError,
    YxanulError,
)
from yxanul.evaluate.answers.requests import Continuations, WritingRequest
from yxanul.optim.optimizers import LearningRates, Optimizers
from yxanul.parallel.processes import Processes, joined_processes
from yxanul.parallel.sharing import SharedWork
from yxanul.parallel.wrapping import wrap_model
from yxanul.train.processes.agreement import refuse_disagreement, refusing_together
from yxanul.train.safety.vigil import Vigil
from yxanul.train.scoring.answering import Answering
from yxanul.train.updates.guarded import guarded_step
from yxanul.train.updates.step import Engine, train_step

ROWS, SEQ_LEN = 8, 16
CPU = torch.device("cpu")
EAGER = ComputeConfig()
RATES = LearningRates(matrices=1e-3, embedding=1e-3, norms=1e-3)


def one_update(
    processes: Processes, *, micro_batch: int, compute: ComputeConfig = EAGER
) -> tuple[dict, dict]:
    """Return loss and norm, and the gradients as AdamW remembers them."""
    again = compute.checkpointed_blocks(shape().num_hidden_layers)
    model = model_with_norms(shape(), checkpointed_blocks=again)
    engine = engine_of(model, processes, micro_batch, compute=compute)
    result = train_step(engine, rows_of(processes), rates=RATES)
    measured = {"loss": result.loss, "grad_norm": result.grad_norm}
    moments = engine.optimizers.state_tensors()
    found = {n: t.numpy().copy() for n, t in moments.items() if n.startswith("exp_avg.")}
    return measured, found


def engine_of(
    model: nn.Module, processes: Processes, micro_batch: int, *, compute: ComputeConfig = EAGER
) -> Engine:
    """The model and what trains it, `micro_batch` rows at a time."""
    config = OptimizerConfig(max_grad_norm=1e9, weight_decay=0.0)
    return Engine(
        replica=wrap_model(model, compute, processes=processes, device=CPU),
        optimizers=Optimizers(
            model, config, muon_dtype=torch.float32, in_place=processes.world_size > 1
        ),
        processes=processes,
        device=CPU,
        micro_batch_tokens=micro_batch * SEQ_LEN,
    )


def rows_of(processes: Processes) -> StepRows:
    """This rank's part of the step."""
    share = ROWS // processes.world_size
    own = slice(processes.rank * share, (processes.rank + 1) * share)
    inputs, targets = (part[own].numpy() for part in rows(ROWS, SEQ_LEN))
    return StepRows.whole(inputs, targets, ranks=processes.world_size)


def gradients_apart(processes: Processes) -> list[int]:
    """In how many pieces of memory the gradients lie before each of four passes, two a step."""
    model, found = model_with_norms(shape()), []

    def look(*_: object) -> None:
        held = (p.grad for p in model.parameters() if p.grad is not None)
        found.append(len({grad.untyped_storage().data_ptr() for grad in held}))

    engine = engine_of(model, processes, ROWS // processes.world_size // 2)
    model.register_forward_pre_hook(look)
    for _ in range(2):
        train_step(engine, rows_of(processes), rates=RATES)
    return found


def failing_update(processes: Processes) -> dict:
    """What a step comes to on this rank when the last one's own norm is not a number."""
    engine = engine_of(model_with_norms(shape()), processes, ROWS)
    if processes.rank == processes.world_size - 1:
        engine.optimizers.clip_gradients = lambda: torch.tensor(math.nan)
    inputs, targets = (part.numpy() for part in rows(ROWS, SEQ_LEN))
    step = guarded_step(
        engine,
        StepRows.whole(inputs, targets, ranks=processes.world_size),
        rates=RATES,
        vigil=Vigil(NumericsConfig()),
    )
    return {"skipped": step.skipped, "hardware": step.hardware}


def compiled_update(processes: Processes, **compute: object) -> dict:
    """The same update with graphs, which are made and not compiled, and buckets of few weights."""
    made = []

    def hand_on(graph: torch.fx.GraphModule, _examples: object) -> Callable[..., object]:
        made.append(graph)
        return graph.forward

    plain, torch.compile = torch.compile, partial(torch.compile, backend=hand_on)
    first, dist._DEFAULT_FIRST_BUCKET_BYTES = dist._DEFAULT_FIRST_BUCKET_BYTES, 2048
    with torch._dynamo.config.patch(optimize_ddp=True):
        measured, _ = one_update(processes, micro_batch=2, compute=ComputeConfig(**compute))
    torch.compile, dist._DEFAULT_FIRST_BUCKET_BYTES = plain, first
    return {**measured, "graphs": len(made)}


def answers(processes: Processes) -> dict:
    """What the ranks say to one another."""
    mine = torch.tensor([float(processes.rank + 1)])
    return {
        "rank": processes.rank,
        "world_size": processes.world_size,
        "is_main": processes.is_main,
        "total": processes.total(mine).item(),
        "last_says_yes": processes.anyone(processes.rank == processes.world_size - 1, CPU),
        "nobody": processes.anyone(False, CPU),
        "largest": processes.largest(torch.tensor(float(processes.rank))).item(),
        "smallest": processes.smallest(2**16 + processes.rank, CPU),
    }


def disagreement(processes: Processes) -> str:
    """What ranks with other values for most keys, and other keys, say of it."""
    rank = processes.rank
    mine = {"shared": "x" * 99, "long": f"{rank}" * 99, f"of rank {rank}": None, "last": rank}
    try:
        refuse_disagreement({"one": {"a": 1}, "two": mine}, processes)
    except UsageError as error:
        return str(error)
    return "they agree"


def refusals(processes: Processes) -> dict:
    """What this rank leaves with when none, the last, the first or all refuse something."""
    rank, last = processes.rank, processes.world_size - 1
    who = {"none": (), "last": (last,), "first": (0,), "all": range(last + 1)}
    found: dict = {}
    for name, ranks in who.items():
        try:
            with refusing_together(processes, device=CPU):
                if rank in ranks:
                    raise ConfigError("é cannot be here")
            found[name] = None
        except YxanulError as error:
            found[name] = [type(error).__name__, error.exit_code, str(error)]
    return found


def doubled(items: list[int], *, plus: int) -> list[int]:
    """A job that fails at two of its items, in two ways."""
    if 13 in items:
        raise NumericsError("13 is not finite")
    if 17 in items:
        raise RuntimeError("17 broke the machine")
    return [2 * item + plus for item in items]


def shared(processes: Processes) -> dict:
    """What the main rank gets of work that all ranks do, by what was asked."""
    work = SharedWork({"double": doubled}, processes, CPU)
    found: dict = {}
    if not processes.is_main:
        work.help()
        return found
    for items in ([], [5], list(range(9)), [0, 13], [13, 0], [0, 17], [17, 0]):
        try:
            found[str(items)] = work.do("double", items, plus=1)
        except (YxanulError, RuntimeError) as error:
            found[str(items)] = f"{type(error).__name__}: {error}"
    work.done()
    return found


def scored(processes: Processes) -> dict:
    """What documents, likelihoods and texts all ranks answer with, and how many were here."""
    tokenizer = load_tokenizer()
    model = model_with_norms(shape(vocab_size=tokenizer.vocab_size, max_position_embeddings=64))
    answering = Answering(model, tokenizer, processes=processes, device=CPU)
    documents = [np.arange(n, 3 * n + 2, dtype=np.uint16) for n in range(1, 12)]
    asked = [Continuations("One and", (" two", " three")[: 1 + n % 2]) for n in range(7)]
    written = [WritingRequest(f"Number {n} is", (), 3 + n) for n in range(5)]
    found: dict = {}
    try:
        with answering.opened() as may_ask:
            if may_ask:
                raise NumericsError("the main rank gives up")
    except NumericsError:
        found["gave_up"] = True  # and the others were let go, for here they all are again
    with answering.opened() as may_ask:
        if may_ask:
            found["documents"] = [s.nats for s in answering.documents(documents, seq_len=16)]
            weighed = answering.likelihoods(asked, batch_tokens=64)
            found["likelihoods"] = [[one.nats for one in texts] for texts in weighed]
            found["texts"] = answering.write(written, batch=4)
    return found


def awaited(processes: Processes) -> list[str | None]:
    """What a rank hears that waits for the main one to come, and then for it in vain."""
    found: list[str | None] = []
    for word in ("it is said", "it is never said"):
        try:
            if processes.is_main and word == "it is never said":
                processes.tell_stopping()
                found.append(None)
                continue
            processes.await_main(word)
            found.append(None)
        except InfrastructureError as error:
            found.append(str(error))
    return found


def write_results(out: Path) -> None:
    """Run as one rank: this rank's numbers and tensors as OUT/<rank>.*."""
    torch.set_num_threads(1)
    with joined_processes(CPU) as processes:
        measured, found = one_update(processes, micro_batch=2)
        save_file(found, out / f"{processes.rank}.safetensors")
        record = {
            **measured,
            **answers(processes),
            "failing": failing_update(processes),
            "shared": shared(processes),
            "disagreement": disagreement(processes),
            "refusals": refusals(processes),
            "scored": scored(processes),
            "compiled": {
                "block": compiled_update(processes, compile="block"),
                "model": compiled_update(processes, compile="model"),
                "recomputing model": compiled_update(
                    processes, compile="model", gradient_checkpointing=True
                ),
            },
            "apart": gradients_apart(processes),
            "awaited": awaited(processes),  # the last: what is told stays told
        }
        (out / f"{processes.rank}.json").write_text(json.dumps(record))
        processes.barrier()


if __name__ == "__main__":
    write_results(Path(sys.argv[1]))
