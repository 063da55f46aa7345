"""A GGUF file in llama.cpp itself: the same ids, logits and text. Needs llama-cpp-python."""

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from tests.export.subjects import subject
from yxanul.config.tokens import END_OF_TEXT
from yxanul.export.exporting import export_gguf
from yxanul.export.llamacpp import LlamaReader
from yxanul.export.samples import PROMPTS, STRESS

pytestmark = pytest.mark.slow
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

SCRIPTS = (
    *((0x20, 0x7E), (0xA1, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x587), (0x5D0, 0x5EA)),
    *((0x620, 0x6FF), (0x900, 0x97F), (0xE01, 0xE5B), (0x10A0, 0x10FF), (0x1E00, 0x1EFF)),
    *((0x2010, 0x205E), (0x2190, 0x22FF), (0x3041, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)),
    *((0x1F300, 0x1F64F), (0x1D400, 0x1D7FF)),
)
SPACES = (" ", " ", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "")


def multilingual(size: int) -> Iterator[str]:
    """Texts of random words of many scripts, a megabyte of UTF-8 or so in all."""
    draw = random.Random(5)
    made = 0
    while made < size:
        words = []
        for _ in range(400):
            low, high = draw.choice(SCRIPTS)
            word = "".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 9)))
            words += [word, str(draw.randint(0, 10**6)) * draw.randint(0, 1), draw.choice(SPACES)]
        text = "".join(words)
        made += len(text.encode())
        yield text


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Iterator[tuple]:
    """A model, what was said of its export, and the file in llama.cpp."""
    one, said = subject(max_position_embeddings=256), []
    out: Path = tmp_path_factory.mktemp("llama") / "m.gguf"
    done = export_gguf(one, out, kind="f32", title="", say=said.append)
    with closing(LlamaReader(out)) as reader:
        yield one, done, reader


def test_the_export_was_tried_in_llama_cpp(llama):
    readers = {check.reader.split()[0] for check in llama[1].checks}
    assert readers == {"gguf", "llama-cpp-python"}


def test_a_megabyte_of_many_scripts_gives_the_same_ids(llama):
    one, _, reader = llama
    for text in (*STRESS, *multilingual(1_000_000)):
        assert reader.encode(text) == one.tokenizer.encode(text)


def test_greedy_text_is_the_same_until_two_tokens_are_as_likely(llama):
    one, _, reader = llama
    for prompt in PROMPTS:
        ids = [END_OF_TEXT, *one.tokenizer.encode(prompt)]
        for _ in range(200):
            with torch.no_grad():
                ours = one.model.logits(one.model.hidden_states(torch.tensor([ids])))[0, -1]
            theirs = reader.logits(ids)[-1]
            assert (theirs - ours).abs().max() < 1e-2 * ours.abs().max()
            best = ours.topk(2).values
            if best[0] - best[1] < 2e-2:
                break
            assert int(theirs.argmax()) == int(ours.argmax())
            ids.append(int(ours.argmax()))
            if len(ids) == one.model.config.max_position_embeddings:
                break
