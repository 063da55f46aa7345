"""What a calibration draws from is what the run's own gates judge by, and more of it."""

import numpy as np

from benchmarks.planting import held_out_text
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
