"""The first losses of a small model are known numbers: nothing may move them unseen.

They are exact where torch and the processor are those that wrote the file, and within 1e-5
elsewhere. A wanted change is written by `YXANUL_WRITE_GOLDEN=1 pytest tests/golden`.
"""

import hashlib
import json
import os
import platform
from pathlib import Path

import pytest
import torch

from tests.model.tiny import rows, shape
from yxanul.config.schema import OptimizerConfig, SeqLenPhase, TrainingConfig
from yxanul.data.batches.loader import StepRows
from yxanul.hardware.choices import cpu_flags
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import LearningRates, Optimizers
from yxanul.optim.schedule import learning_rate_factor
from yxanul.parallel.processes import ALONE
from yxanul.parallel.replica import TorchReplica
from yxanul.train.updates.step import Engine, train_step

STEPS, ROWS, SEQ_LEN = 20, 8, 32
TRAINING = TrainingConfig(
    total_tokens=STEPS * ROWS * SEQ_LEN,
    batch_tokens=ROWS * SEQ_LEN,
    learning_rate=1e-2,
    warmup_fraction=0.1,
    seq_len_curriculum=(SeqLenPhase(from_fraction=0.0, seq_len=SEQ_LEN),),
)


def processor() -> str:
    """One word for all that the order of sums may depend on."""
    kind = [torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability()]
    return hashlib.sha256(" ".join([*kind, *sorted(cpu_flags())]).encode()).hexdigest()[:16]


def engine(optimizer: OptimizerConfig) -> Engine:
    model = Transformer.initialised(
        shape(num_key_value_heads=2), seed=11, attention="plain", loss_chunk_tokens=50
    )
    return Engine(
        replica=TorchReplica(model),
        optimizers=Optimizers(model, optimizer, muon_dtype=torch.float32),
        processes=ALONE,
        device=torch.device("cpu"),
        micro_batch_tokens=4 * SEQ_LEN,
    )


def train(name: str, *, steps: int = STEPS, same_batch: bool = False) -> list[float]:
    trained = engine(OptimizerConfig(name=name))
    losses = []
    for step in range(steps):
        # Tokens 0 to 15 only, so that there is something to learn in 20 steps.
        count = 2 if same_batch else ROWS
        inputs, targets = rows(count, SEQ_LEN, vocab=16, seed=0 if same_batch else step)
        rate = TRAINING.learning_rate
        rate *= 1.0 if same_batch else learning_rate_factor(TRAINING, step, total_steps=steps)
        rates = LearningRates(matrices=rate, embedding=rate, norms=rate)
        losses.append(
            train_step(trained, StepRows.whole(inputs.numpy(), targets.numpy()), rates=rates).loss
        )
    return losses


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_losses_are_the_golden_ones(name):
    path = Path(__file__).parent / f"{name}.json"
    losses = train(name)
    if os.environ.get("YXANUL_WRITE_GOLDEN"):
        record = {"torch": torch.__version__, "processor": processor(), "losses": losses}
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(path.read_text(encoding="utf-8"))
    if golden["processor"] == processor():
        assert losses == golden["losses"]
    else:
        assert losses == pytest.approx(golden["losses"], rel=1e-5)
    assert losses[-1] < losses[0] - 1.5


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_model_learns_one_batch_by_heart(name):
    losses = train(name, steps=120, same_batch=True)
    assert losses[-1] < 0.05
