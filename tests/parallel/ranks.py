"""A program for torchrun's ranks: one update on this rank's rows, its result in a file."""

import json
import sys
from pathlib import Path

import torch
from safetensors.numpy import save_file

from tests.model.tiny import model_with_norms, rows, shape
from yxanul.config.schema import ComputeConfig, OptimizerConfig
from yxanul.data.loader import StepRows
from yxanul.optim.optimizers import LearningRates, Optimizers
from yxanul.parallel.processes import Processes, joined_processes
from yxanul.parallel.wrapping import wrap_model
from yxanul.train.step import Engine, train_step

ROWS, SEQ_LEN = 8, 16
CPU = torch.device("cpu")


def one_update(processes: Processes, *, micro_batch: int) -> tuple[dict, dict]:
    """Return loss and norm, and the gradients as AdamW remembers them."""
    model = model_with_norms(shape())
    config = OptimizerConfig(max_grad_norm=1e9, weight_decay=0.0)
    engine = Engine(
        replica=wrap_model(model, ComputeConfig(), processes=processes, device=CPU),
        optimizers=Optimizers(model, config, muon_dtype=torch.float32),
        processes=processes,
        device=CPU,
        micro_batch_tokens=micro_batch * SEQ_LEN,
    )
    share = ROWS // processes.world_size
    own = slice(processes.rank * share, (processes.rank + 1) * share)
    inputs, targets = (part[own].numpy() for part in rows(ROWS, SEQ_LEN))
    rates = LearningRates(matrices=1e-3, embedding=1e-3, norms=1e-3)
    result = train_step(
        engine, StepRows.whole(inputs, targets, ranks=processes.world_size), rates=rates
    )
    measured = {"loss": result.loss, "grad_norm": result.grad_norm}
    moments = engine.optimizers.state_tensors()
    found = {n: t.numpy().copy() for n, t in moments.items() if n.startswith("exp_avg.")}
    return measured, found


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
    }


def write_results(out: Path) -> None:
    """Run as one rank: this rank's numbers and tensors as OUT/<rank>.*."""
    torch.set_num_threads(1)
    with joined_processes(CPU) as processes:
        measured, found = one_update(processes, micro_batch=2)
        save_file(found, out / f"{processes.rank}.safetensors")
        record = {**measured, **answers(processes)}
        (out / f"{processes.rank}.json").write_text(json.dumps(record))
        processes.barrier()


if __name__ == "__main__":
    write_results(Path(sys.argv[1]))
