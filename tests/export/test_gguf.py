"""A GGUF file holds what the model holds, in the numbers that its type says.

Reading one back takes the package seconds, so few are written here and read often.
"""

import shutil
import sys

import gguf
import numpy as np
import pytest

from tests.export.subjects import run_with_checkpoints, subject
from yxanul.config.tokens import END_OF_TEXT
from yxanul.errors import ExportCheckError, MissingExtraError
from yxanul.export.exporting import export_gguf, refuse_export
from yxanul.export.gguf import GgufReader, gguf_name, read_gguf


def types(content: gguf.GGUFReader) -> dict[str, str]:
    """How each tensor's numbers are stored."""
    return {tensor.name: tensor.tensor_type.name for tensor in content.tensors}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple:
    """A model, its file in fp32, what was said of it, and the file as the package reads it."""
    one, said = subject(), []
    out = tmp_path_factory.mktemp("gguf") / "deep" / "m.gguf"
    done = export_gguf(one, out, kind="f32", title="a title", say=said.append)
    return one, done, said, read_gguf(out)


def test_what_was_compared_is_told(exported):
    _, done, said, _ = exported
    assert [check.name for check in done.checks][:3] == ["token ids", "logits", "perplexity"]
    assert done.checks[1].figure < 1e-5
    assert done.bytes == done.place.stat().st_size
    assert [path.name for path in done.place.parent.iterdir()] == ["m.gguf"]
    assert "the same ids" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_0"])
def test_other_types_are_written_and_read_back(tmp_path, kind):
    done = export_gguf(subject(), tmp_path / "m.gguf", kind=kind, title="", say=lambda _: None)
    assert done.checks[1].figure > 0
    stored = types(read_gguf(done.place))
    assert stored["token_embd.weight"] == stored["blk.1.ffn_down.weight"] == kind.upper()
    assert stored["output_norm.weight"] == stored["blk.0.attn_norm.weight"] == "F32"


def test_the_header_says_what_llama_cpp_needs(exported):
    one, _, _, content = exported
    config = one.model.config

    def field(key: str) -> object:
        return content.fields[key].contents()

    assert field("general.architecture") == "gemma"
    assert field("gemma.attention.head_count_kv") == config.num_key_value_heads
    assert field("gemma.attention.key_length") == config.head_dim
    assert field("gemma.rope.freq_base") == config.rope_theta
    assert field("gemma.context_length") == config.max_position_embeddings
    assert field("tokenizer.ggml.model") == "gpt2"
    assert field("tokenizer.ggml.pre") == "gpt-2"
    assert field("tokenizer.ggml.bos_token_id") == END_OF_TEXT
    assert field("tokenizer.ggml.add_bos_token") is False
    tokens = field("tokenizer.ggml.tokens")
    assert len(tokens) == 50257
    assert tokens[END_OF_TEXT] == "<|endoftext|>"
    assert tokens[one.tokenizer.encode(" the")[0]] == "\u0120the"


def test_numbers_are_the_models_and_norms_are_one_more(exported):
    one, _, _, content = exported
    assert set(types(content).values()) == {"F32"}
    stored = {t.name: t.data for t in content.tensors}
    assert "output.weight" not in stored  # the head is the embedding
    state = one.model.state_dict()
    np.testing.assert_array_equal(stored["output_norm.weight"], state["norm.weight"].numpy() + 1)
    for name in ("layers.1.self_attn.k_proj.weight", "layers.0.mlp.up_proj.weight"):
        np.testing.assert_array_equal(stored[gguf_name(name)], state[name].numpy())


@pytest.mark.parametrize(
    "name", ["blk.1.attn_q.weight", pytest.param("output_norm.weight", marks=pytest.mark.slow)]
)
def test_a_number_that_is_not_the_models_is_found(exported, tmp_path, name):
    one, done, _, content = exported
    damaged = shutil.copy(done.place, tmp_path / "m.gguf")
    at = next(t.data_offset for t in content.tensors if t.name == name)
    with damaged.open("r+b") as file:
        file.seek(int(at) + 4)
        byte = file.read(1)[0]
        file.seek(int(at) + 4)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ExportCheckError, match="does not hold"):
        GgufReader(damaged, one, kind="f32")


def test_a_shape_that_blocks_do_not_fit_is_refused(tmp_path, call):
    run = run_with_checkpoints(tmp_path / "run")
    out = tmp_path / "m.gguf"
    code, _, err = call("export", run.root, "--to", "gguf", "--type", "q8_0", "--out", out)
    assert (code, "16 is no multiple" in err) == (30, True)
    assert not list(tmp_path.glob("*.gguf")) + list(tmp_path.glob(".tmp*"))


def test_a_title_names_the_run_and_every_checkpoint_of_an_average(tmp_path, call):
    run = run_with_checkpoints(tmp_path / "run", (1, 2, 3))
    for words, title in (
        ((), "run step-00000003-a0"),
        (("--average", "last:2"),
         "run average of 2 checkpoints, step-00000002-a0 to step-00000003-a0"),
    ):  # fmt: skip
        out = tmp_path / f"{len(words)}.gguf"
        assert call("export", run.root, "--to", "gguf", *words, "--out", out)[0] == 0
        assert read_gguf(out).get_field("general.name").contents() == title


@pytest.mark.parametrize("name", ["gguf", "tokenizers"])
def test_a_package_that_is_missing_is_told_before_a_model_is_opened(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"needs the package {name}, .*yxanul\[export\]"):
        refuse_export(tmp_path / "out", form="gguf", kind="f32")
