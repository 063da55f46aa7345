"""How many texts are written at once: what memory has no room for is told before it is served."""

import math
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.evaluate.runs import add_checkpoint
from tests.model.tiny import model_with_norms, shape
from tests.serve.conftest import OWN_SETTINGS, path
from tests.serve.test_engine import Listener
from tests.train.world import write_configs
from yxanul import cores as cores_room
from yxanul.config.load import dump_config, load_config
from yxanul.config.tokens import GPT2_TOKENS
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import UsageError
from yxanul.hardware.choices import pick_device
from yxanul.hardware.device import memory_bytes
from yxanul.model.decoding import Decoder
from yxanul.model.transformer import Transformer
from yxanul.plan.memory import CARD_SHARE
from yxanul.runfolder.layout import RunFolder
from yxanul.serve.capacity import settle_batch
from yxanul.serve.rows import Rows, reading_bytes, row_bytes

STATM = Path("/proc/self/statm")


@pytest.fixture
def vast(tmp_path):
    """A run whose model has a context of a million tokens: 2 GiB a text."""
    configs = write_configs(tmp_path / "configs")
    more = ("model.max_position_embeddings=1048576", "model.num_hidden_layers=16")
    config = load_config(configs, overrides=(*OWN_SETTINGS, *more))
    folder = RunFolder(tmp_path / "vast")
    folder.create()
    folder.config.write_text(dump_config(config))
    add_checkpoint(folder, 1, model=Transformer.initialised(config.model, seed=1))
    return folder.root


def test_a_batch_that_memory_has_no_room_for_is_one_sentence_with_one_that_fits(vast):
    command = [sys.executable, "-m", "yxanul", "serve", vast, "--port", "0", "--batch", "1024"]
    environment = {**os.environ, "PYTHONPATH": path()}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    err = done.stderr
    assert (done.returncode, done.stdout) == (30, "")
    assert "1,024 texts at once need 2 TiB of memory for keys and values, 2 GiB each" in err
    fitting = int(re.search(r": --batch (\d+) would fit", err)[1])
    assert 1 <= fitting <= memory_bytes(pick_device()) / 2**31
    assert "served" not in err
    assert "Traceback" not in err


def decoder(positions: int = 64, **options) -> Decoder:
    config = shape(vocab_size=GPT2_TOKENS, num_key_value_heads=2, max_position_embeddings=positions)
    return Decoder(model_with_norms(config, attention="plain", **options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_takes_what_is_said_of_it(dtype):
    net, one = decoder(compute_dtype=dtype), Listener()
    rows = Rows(net, load_tokenizer(), batch=3)
    reading = rows.read([one.choice])
    assert reading.go_on()
    rows.join(reading)
    tensors = [tensor for layer in rows._cache.layers for tensor in (layer.keys, layer.values)]
    assert sum(tensor.nbytes for tensor in tensors) == 3 * row_bytes(net)


def held() -> int:
    """Bytes of memory that this process has in use."""
    return int(STATM.read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells it so")
def test_of_the_memory_of_many_long_rows_a_cpu_gives_what_is_used():
    net, one = decoder(8192), Listener()
    rows = Rows(net, load_tokenizer(), batch=64)
    reading = rows.read([one.choice])
    assert reading.go_on()
    before = held()
    rows.join(reading)
    rows.step()
    assert held() - before < 8 * row_bytes(net)


def test_of_the_usual_number_there_are_fewer_in_a_small_container(monkeypatch, tmp_path):
    net, told = decoder(), []
    monkeypatch.setattr(cores_room, "_CGROUP", tmp_path)
    assert settle_batch(net, None, tell=told.append) == 16
    assert told == []
    (tmp_path / "memory.max").write_text(str(6 * row_bytes(net) - 1))
    assert settle_batch(net, None, tell=told.append) == 5
    assert told[0].endswith("can be had: 5 are written at once")
    assert settle_batch(net, 5, tell=told.append) == 5
    with pytest.raises(UsageError, match="--batch 5 would fit"):
        settle_batch(net, 6, tell=told.append)
    (tmp_path / "memory.max").write_text(str(row_bytes(net) - 1))
    with pytest.raises(UsageError, match="too little for one"):
        settle_batch(net, None, tell=told.append)


def test_on_a_card_there_is_what_is_free_less_what_reading_and_the_rest_need(monkeypatch):
    net = decoder()
    on_card = SimpleNamespace(config=net.config, dtype=net.dtype, device=torch.device("cuda", 0))
    row, total = row_bytes(net), 10**9
    # Of what is free, and of what torch keeps and does not use: other programs may have the rest.
    free = math.ceil((reading_bytes(net) + 5.5 * row) / CARD_SHARE) - 2 * row
    for name, value in {
        "mem_get_info": (free, total),
        "memory_reserved": 7 * row,
        "memory_allocated": 5 * row,
        "get_device_properties": SimpleNamespace(total_memory=total),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, value=value: value)
    assert settle_batch(on_card, 5, tell=print) == 5
    with pytest.raises(UsageError, match="--batch 5 would fit"):
        settle_batch(on_card, 6, tell=print)
