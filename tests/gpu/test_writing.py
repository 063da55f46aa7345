"""Texts that are written on a card, and moments that come back to it: run with `pytest -m gpu`."""

import pytest
import torch

from tests.model.tiny import model_with_norms, rows, shape
from yxanul.config.schema import OptimizerConfig
from yxanul.data.batches.loader import StepRows
from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.answers.likelihood import likelihoods
from yxanul.evaluate.answers.requests import Continuations, WritingRequest
from yxanul.evaluate.answers.writing import write
from yxanul.evaluate.models.ours import OurModel, as_language_model
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import LearningRates, Optimizers
from yxanul.parallel.processes import ALONE
from yxanul.parallel.replica import TorchReplica
from yxanul.train.updates.step import Engine, train_step

CARD = torch.device("cuda", 0)
PROMPTS = ("The river", "In the old city there was a small house, and in it", "A")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA card"),
]


def language_model(device: torch.device, kv_heads: int) -> OurModel:
    config = shape(vocab_size=50_257, num_key_value_heads=kv_heads)
    return as_language_model(model_with_norms(config).to(device), load_tokenizer(), name="tiny")


@pytest.mark.parametrize("kv_heads", [4, 1])
def test_texts_are_those_of_the_cpu_together_and_alone(kv_heads):
    """Memory that a card hands out for a cache may hold anything."""
    requests = [WritingRequest(prompt, (), 12) for prompt in PROMPTS]
    wanted = write(language_model(torch.device("cpu"), kv_heads), requests)
    filled = torch.full((2**22,), float("nan"), device=CARD)
    del filled
    model = language_model(CARD, kv_heads)
    assert write(model, requests) == wanted
    assert [text for request in requests for text in write(model, [request])] == wanted


def test_scores_are_those_of_the_cpu():
    endings = (" there was", " a", " of the old house")
    requests = [Continuations(prompt, endings) for prompt in PROMPTS]
    wanted = likelihoods(language_model(torch.device("cpu"), 4), requests)
    found = likelihoods(language_model(CARD, 4), requests)
    for ours, theirs in zip(found, wanted, strict=True):
        assert [one.is_greedy for one in ours] == [one.is_greedy for one in theirs]
        assert [one.nats for one in ours] == pytest.approx([one.nats for one in theirs], abs=1e-3)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_moments_that_were_saved_go_on_as_the_unbroken_ones(name):
    """The fused kernel reads its count on the card."""
    rates = LearningRates(1e-3, 1e-3, 1e-3)

    def engine(model: Transformer) -> Engine:
        return Engine(
            replica=TorchReplica(model),
            optimizers=Optimizers(model, OptimizerConfig(name=name), muon_dtype=torch.bfloat16),
            processes=ALONE,
            device=CARD,
            micro_batch_tokens=4096,
        )

    def trained(what: Engine, seeds: range) -> list[float]:
        batches = [StepRows.whole(*(p.numpy() for p in rows(8, 32, seed=seed))) for seed in seeds]
        return [train_step(what, batch, rates=rates).loss for batch in batches]

    models = [model_with_norms(shape(), compute_dtype=torch.bfloat16).to(CARD) for _ in range(2)]
    unbroken, resumed = map(engine, models)
    trained(unbroken, range(4))
    moments = {key: tensor.cpu() for key, tensor in unbroken.optimizers.state_tensors().items()}
    models[1].load_state_dict({key: t.cpu() for key, t in models[0].state_dict().items()})
    resumed.optimizers.load_state_tensors(moments)
    wanted = trained(unbroken, range(4, 8))
    assert trained(resumed, range(4, 8)) == pytest.approx(wanted, rel=1e-5)
