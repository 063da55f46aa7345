"""A part that is compiled has a graph for every shape of the run, and says so when it has not."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.model.tiny import model_with_norms, rows, shape
from yxanul.config.load import load_config
from yxanul.config.schema import ComputeConfig
from yxanul.errors import InfrastructureError
from yxanul.hardware.compiler import compile_obstacle
from yxanul.parallel import compiling, wrapping
from yxanul.parallel.compiling import (
    allow_graphs,
    forward_shapes,
    graphs_made,
    keep_compiled,
    naming_recompiles,
)
from yxanul.parallel.processes import ALONE

config = pytest.importorskip("torch._dynamo").config
LENGTHS = range(8, 48, 4)
ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code


class Compiler:
    """A back end that compiles nothing, and counts its graphs and how often they are run."""

    def __init__(self) -> None:
        self.graphs = self.calls = 0

    def __call__(self, graph, _inputs):
        self.graphs += 1

        def run(*inputs):
            self.calls += 1
            return graph(*inputs)

        return run


@pytest.fixture
def compiler(monkeypatch) -> Compiler:
    """Compile by a count; torch's settings are as before afterwards."""
    names = ("recompile_limit", "accumulated_recompile_limit", "fail_on_recompile_limit_hit")
    found = Compiler()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=found))
    torch.compiler.reset()
    with config.patch({name: getattr(config, name) for name in names}):
        yield found
    torch.compiler.reset()


def test_ten_lengths_are_ten_graphs_and_no_block_runs_without(compiler):
    model = model_with_norms(shape())
    model.compile_training("block")
    allow_graphs(len(LENGTHS))
    made = graphs_made()
    for seq_len in LENGTHS:
        model(*rows(2, seq_len)).backward()
    # One for a block and one for the norm at the end; equal blocks share theirs.
    assert compiler.graphs == graphs_made() - made == 2 * len(LENGTHS)
    assert compiler.calls == (len(model.layers) + 1) * len(LENGTHS)


def test_one_graph_too_many_is_one_sentence_and_not_a_slow_run(compiler):
    model = model_with_norms(shape())
    model.compile_training("block")
    allow_graphs(1)

    def train() -> None:
        for seq_len in LENGTHS:
            model(*rows(2, seq_len)).backward()

    told = pytest.raises(InfrastructureError, match="start the same command again")
    with config.patch(recompile_limit=2), told, naming_recompiles():
        train()
    assert compiler.graphs == 2 * 2


def test_to_count_graphs_the_compiler_is_not_loaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch._dynamo.utils", raising=False)
    assert graphs_made() == 0
    assert "torch._dynamo.utils" not in sys.modules


def test_other_errors_pass_as_they_are():
    with pytest.raises(ValueError, match="mine"), naming_recompiles():
        raise ValueError("mine")


def test_a_torch_without_these_settings_is_left_alone(monkeypatch):
    monkeypatch.setattr("torch._dynamo.config", object())
    allow_graphs(10)
    compiling.leave_blocks_whole()


def test_what_is_compiled_is_kept_where_it_is_said_to_be(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    room = SimpleNamespace(free=2 << 30)
    monkeypatch.setattr("yxanul.parallel.compiling.shutil.disk_usage", lambda _: room)
    keep_compiled(tmp_path / "beside" / "inductor")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "beside" / "inductor")
    assert list(tmp_path.iterdir()) == []  # whoever compiles nothing finds no folder
    keep_compiled(tmp_path / "another")  # a place that was named already is left
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].endswith("inductor")


@pytest.mark.parametrize("obstacle", ["full", "read-only", "noexec"])
def test_a_disk_that_takes_nothing_is_left_alone(monkeypatch, tmp_path, obstacle):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if obstacle == "full":
        left = SimpleNamespace(free=100 << 20)
        monkeypatch.setattr("yxanul.parallel.compiling.shutil.disk_usage", lambda _: left)
    elif obstacle == "noexec":
        found = os.statvfs(tmp_path)
        flags = SimpleNamespace(f_flag=os.ST_NOEXEC, f_frsize=4096, f_bavail=2**30)
        flags.f_blocks, flags.f_bfree = found.f_blocks, found.f_bfree
        monkeypatch.setattr("yxanul.parallel.compiling.os.statvfs", lambda _: flags)
    else:  # root may write everywhere
        monkeypatch.setattr("yxanul.parallel.compiling.os.access", lambda *_: False)
    keep_compiled(tmp_path / "beside" / "inductor")
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


@pytest.mark.slow
@pytest.mark.skipif(compile_obstacle(CPU) is not None, reason="there is no compiler here")
def test_a_later_process_finds_what_an_earlier_one_has_compiled(tmp_path):
    program = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from yxanul.parallel.compiling import keep_compiled\n"
        "keep_compiled(Path(sys.argv[1]) / 'cache')\n"
        "torch.compile(lambda x: x.sin() + 1)(torch.ones(3))\n"
        "print(dict(torch._dynamo.utils.counters['inductor']))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    command = [sys.executable, "-c", program, str(tmp_path)]
    told = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert ["fxgraph_cache_hit" in each for each in told] == [False, True]


def test_every_shape_of_every_stage_is_counted_once():
    stages = load_config(ROOT / "configs" / "embedded").stages
    lengths = {p.seq_len for s in stages for p in s.training.seq_len_curriculum}
    batch = max(s.training.batch_tokens for s in stages)
    whole = forward_shapes(stages, micro_batch_tokens=batch, processes=1)
    assert {seq_len for _, seq_len in whole} == lengths
    one = {(1, seq_len) for seq_len in lengths}
    assert forward_shapes(stages, micro_batch_tokens=1, processes=1) == one
    # Three rows at a time leave a last pass of one or two, unless they go into the batch.
    uneven = forward_shapes(stages[:1], micro_batch_tokens=3 * min(lengths), processes=1)
    rows_of_shortest = stages[0].training.batch_tokens // min(lengths)
    assert ((rows_of_shortest % 3, min(lengths)) in uneven) == (rows_of_shortest % 3 > 0)
    assert (3, min(lengths)) in uneven
    halves = forward_shapes(stages, micro_batch_tokens=batch, processes=2)
    assert {rows for rows, _ in halves} == {rows // 2 for rows, _ in whole}


STOPPED = """
import os, signal, time
from yxanul.parallel.compiling import start_compilers

asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
signal.signal(signal.SIGINT, lambda *_: asked.append(True))
start_compilers()
print("started", flush=True)
while len(asked) < 2:
    time.sleep(0.01)
from torch._inductor.async_compile import AsyncCompile

print(AsyncCompile.process_pool().submit(os.getpid).result() != os.getpid())
"""


def test_a_stop_of_all_that_a_rank_has_started_leaves_it_its_compilers():
    """Real ones, to which torchrun's signal goes as to the rank; it compiles after that."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TORCHINDUCTOR_COMPILE_THREADS": "2"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            for number in (signal.SIGTERM, signal.SIGINT):
                os.killpg(process.pid, number)
            told, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, told) == (0, "True\n")


@pytest.mark.parametrize(
    ("device", "how", "order"),
    [
        ("cuda", "block", ["start", "compile"]),
        ("cuda", "off", ["compile"]),
        ("cpu", "block", ["compile"]),
    ],
)
def test_compilers_are_started_where_a_card_will_need_them(monkeypatch, device, how, order):
    found: list[str] = []
    monkeypatch.setattr(wrapping, "start_compilers", lambda: found.append("start"))
    model = model_with_norms(shape())
    monkeypatch.setattr(model, "compile_training", lambda _how: found.append("compile"))
    compute = ComputeConfig(compile=how)
    wrapping.wrap_model(model, compute, processes=ALONE, device=torch.device(device))
    assert found == order
