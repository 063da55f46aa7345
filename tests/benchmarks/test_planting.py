"""What a calibration draws from is what the run's own gates judge by, and more of it."""

import numpy as np
import pytest

from benchmarks.planting import held_out_text, open_checkpoint
from tests.evaluate.runs import add_checkpoint, write_run
from tests.hardware.cards import dying
from tests.train.world import STAGES, finished_world
from yxanul.config.load import parse_config
from yxanul.data.batches.validation import PARTS, domain_documents
from yxanul.data.prepared.manifest import load_manifest


def test_documents_are_counted_and_cut_as_the_runs_own_gates_have_them(tmp_path_factory):
    run = finished_world(tmp_path_factory, "planting").root / "run"
    config = parse_config((run / "config.yaml").read_text())
    tokens = config.stages[0].evaluation.tokens_per_domain
    text = held_out_text(run, config, seq_len=64, most=4 * tokens)
    manifest = load_manifest(run / "data")
    gate = domain_documents(manifest, run / "data", stage=STAGES[0], tokens_per_domain=tokens)
    assert text.judged == {domain: len(documents) for domain, documents in gate.items()}
    for domain, documents in gate.items():
        drawn = text.documents[domain]
        assert len(drawn) > len(documents)
        assert max(map(len, drawn)) == tokens // PARTS
        assert all(map(np.array_equal, drawn, documents))


def test_what_is_compared_on_the_cpu_is_loaded_there_on_a_machine_with_a_card(
    tmp_path, monkeypatch
):
    # The model is loaded now: it asks for packages that are pretended below.
    for package in ("transformers.models.gemma.modeling_gemma", "lm_eval"):
        pytest.importorskip(package)
    from benchmarks.parity import _models
    from benchmarks.scoring import trained

    checkpoint = add_checkpoint(write_run(tmp_path / "run"), 3)
    dying(monkeypatch)
    models = [open_checkpoint(checkpoint), trained(checkpoint)]
    ours, theirs = _models(checkpoint, positions=64, batch=1)
    weights = [model.embed_tokens.weight for model in models]
    devices = [*(one.device for one in weights), ours.model.device, theirs.device]
    assert {device.type for device in devices} == {"cpu"}
