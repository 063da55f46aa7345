"""A loaded model is the trained one: its weights once in memory, its shape, its precision."""

import fcntl

import pytest
import torch

from tests.evaluate.runs import add_checkpoint, flip_bit, new_model, write_run
from tests.hardware.cards import foreign
from yxanul.errors import CorruptCheckpointError, CorruptDataError, UsageError
from yxanul.evaluate.models.loaded import _precision, device_for_reading, load_model


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run")
    add_checkpoint(folder, 3)
    return folder


def test_the_model_computes_what_the_trained_one_does(run):
    loaded = load_model(run.root)
    assert loaded.info.step == 3
    assert loaded.notes == () or "fp32" in loaded.notes[0]
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    loaded.model.compute_dtype = torch.float32
    trained = new_model(run, seed=3)
    tokens = torch.arange(50)[None] * 700
    with torch.no_grad():
        ours, theirs = (m.logits(m.hidden_states(tokens)) for m in (loaded.model, trained))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_loading_draws_no_random_number_and_wakes_no_gradient(run):
    state = torch.get_rng_state()
    loaded = load_model(run.root)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in loaded.model.parameters())
    assert not any(
        tensor.is_meta for tensor in (*loaded.model.parameters(), *loaded.model.buffers())
    )


def test_the_runs_precision_is_kept_unless_the_device_would_emulate_it():
    assert _precision("bf16", "bf16") == ("bf16", [])
    assert _precision("fp32", "bf16") == _precision("fp32", "fp32") == ("fp32", [])
    precision, notes = _precision("bf16", "fp32")
    assert precision == "fp32"
    assert "bf16" in notes[0]


def test_a_newer_checkpoint_that_was_not_used_is_told(run):
    bad = add_checkpoint(run, 9)
    flip_bit(bad / "model.safetensors")
    loaded = load_model(run.root)
    assert loaded.info.step == 3
    assert str(bad) in loaded.notes[0]


def test_a_checkpoint_away_from_its_run_is_refused(run):
    run.config.unlink()
    with pytest.raises(UsageError, match=r"config\.yaml is missing"):
        load_model(next(run.checkpoints.glob("step-*")))


@pytest.mark.parametrize("content", [b"model: 3\n", b"\xff\xfe", b"", b"model: [\n"])
def test_a_damaged_configuration_is_named(run, content):
    run.config.write_bytes(content)
    with pytest.raises(CorruptDataError, match=r"config\.yaml"):
        load_model(run.root)


def test_weights_that_do_not_fit_the_shape_are_named(run):
    run.config.write_text(run.config.read_text().replace("hidden_size: 16", "hidden_size: 32"))
    with pytest.raises(CorruptCheckpointError, match=r"embed_tokens\.weight is \(50257, 16\)"):
        load_model(run.root)


def test_a_card_that_torch_was_not_built_for_is_refused(run, monkeypatch):
    foreign(monkeypatch)
    with pytest.raises(UsageError, match="is an sm_70"):
        load_model(run.root)


def test_the_card_is_left_to_a_run_that_trains(run, monkeypatch):
    """A card alone is named here, and none is used."""
    card, cpu = torch.device("cuda", 0), torch.device("cpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_for_reading(run, here=card) == (card, [])
    with (run.root / ".lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process: it is not the folder's own
        device, (told,) = device_for_reading(run, here=card)
        assert (device, "CUDA_VISIBLE_DEVICES=NUMBER" in told) == (cpu, True)
        assert device_for_reading(run, here=cpu) == (cpu, [])
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        device, (told,) = device_for_reading(run, here=card)
        assert (device, "which may be the run's" in told) == (card, True)
    assert device_for_reading(run, here=card) == (card, [])
