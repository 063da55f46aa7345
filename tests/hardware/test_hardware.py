"""Choices by rule: complete, repeatable, and honest about what this machine cannot do."""

import os
import re
import runpy
import subprocess
import sys
import sysconfig
import types
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.hardware.cards import MISSING, NOT_UP, TOO_OLD, pretend, unused
from yxanul import cores as cores_room
from yxanul.config.schema import ComputeConfig, OptimizationConfig
from yxanul.errors import InfrastructureError, UsageError
from yxanul.hardware import choices
from yxanul.hardware import compiler as compiler_room
from yxanul.hardware import device as device_room
from yxanul.hardware.choices import (
    FLASH3_MODULE,
    HIDING,
    attention_obstacle,
    freeze_compute,
    impossible_choices,
    pick_device,
    settle_compute,
    unused_card,
    usable_device,
)
from yxanul.hardware.compiler import compile_obstacle
from yxanul.hardware.device import cpu_flags, memory_bytes, most_held_bytes
from yxanul.hardware.doctor import examine, summarise
from yxanul.hardware.feature import Case
from yxanul.hardware.peak import gemm_flops
from yxanul.hardware.rows import arithmetic, optional

CPU = torch.device("cpu")
SRC = Path(__file__).parents[2] / "src"
TESTS = Path(__file__).parents[1]


def freeze(compute: ComputeConfig, *, longest_seq_len: int = 512) -> ComputeConfig:
    return freeze_compute(compute, CPU, longest_seq_len=longest_seq_len)


@pytest.mark.parametrize(
    ("precision", "attention"),
    list(product(["auto", "bf16", "fp32"], ["auto", "plain", "sdpa"])),
)
def test_every_open_choice_is_made_and_every_made_one_kept(precision, attention):
    wish = ComputeConfig(precision=precision, attention=attention)
    frozen = freeze(wish)
    assert "auto" not in frozen.model_dump().values()
    assert frozen.threads is not None
    assert frozen.threads >= 1
    assert frozen.micro_batch_tokens is not None
    assert frozen.micro_batch_tokens >= 1
    assert frozen.loss_chunk_tokens == 2048
    assert frozen.compile == "off"
    if precision != "auto":
        assert frozen.precision == precision
    if attention != "auto":
        assert frozen.attention == attention
    ComputeConfig.model_validate(frozen.model_dump())


def test_a_frozen_choice_is_frozen_again_to_itself():
    once = freeze(ComputeConfig())
    assert freeze(once) == once
    assert freeze(ComputeConfig()) == once
    assert freeze(ComputeConfig(threads=3, micro_batch_tokens=77)).threads == 3
    assert freeze(ComputeConfig(threads=3, micro_batch_tokens=77)).micro_batch_tokens == 77


@pytest.mark.parametrize("variable", ["LOCAL_WORLD_SIZE", "LOCAL_SIZE"])
@pytest.mark.parametrize(("processes", "threads"), [("1", 8), ("2", 4), ("3", 2), ("64", 1)])
def test_the_cores_are_shared_out_among_the_processes_of_a_machine(
    monkeypatch, variable, processes, threads
):
    monkeypatch.setattr(device_room, "usable_cores", lambda: 8)
    monkeypatch.setenv(variable, processes)
    assert freeze(ComputeConfig()).threads == threads
    assert freeze(ComputeConfig(threads=7)).threads == 7


@pytest.mark.parametrize(("longest", "path"), [(1024, "plain"), (1025, "by_length")])
def test_a_cpu_multiplies_plainly_up_to_1024_tokens(longest, path):
    assert freeze(ComputeConfig(), longest_seq_len=longest).attention == path


@pytest.mark.parametrize("attention", ["cudnn", "flash", "efficient"])
def test_a_kernel_of_a_card_is_refused_on_a_cpu(attention):
    with pytest.raises(UsageError, match=f"compute.attention={attention} needs a CUDA card"):
        freeze(ComputeConfig(attention=attention))


@pytest.mark.parametrize("asked", [{"attention": "flash3"}, {"flash_attention_3": True}])
def test_flash_attention_3_is_refused_where_there_is_no_hopper(asked):
    with pytest.raises(UsageError, match="attention=flash3 runs on Hopper cards only"):
        freeze(ComputeConfig(**asked))


@pytest.fixture
def card(monkeypatch):
    """Return a function that makes torch speak of a card, and of a package or its absence."""
    return partial(pretend, monkeypatch)


def settle(device: torch.device, **wish) -> ComputeConfig:
    compute = ComputeConfig(precision="bf16", compile="off", threads=1, **wish)
    settled = settle_compute(compute, device, longest_seq_len=512)
    ComputeConfig.model_validate(settled.model_dump())
    return settled


@pytest.mark.parametrize(
    ("capability", "masked", "attention"),
    [
        ((9, 0), False, "cudnn"),
        ((9, 0), True, "flash"),
        ((8, 0), False, "flash"),
        ((8, 0), True, "flash"),
    ],
)
def test_a_card_whose_documents_are_kept_apart_takes_the_kernel_that_can(
    card, capability, masked, attention
):
    device = card(capability, package=False)
    settled = settle(device, document_masking=masked)
    assert (settled.attention, settled.flash_attention_3) == (attention, False)
    assert attention_obstacle(settled, device) is None


def test_cudnn_cannot_keep_documents_apart(card):
    device = card((9, 0), package=False)
    said = attention_obstacle(settle(device, document_masking=True, attention="cudnn"), device)
    assert "cannot keep documents apart, and compute.document_masking is true" in str(said)


@pytest.mark.parametrize(
    ("capability", "package", "said"),
    [
        ((9, 0), True, None),
        (
            (9, 0),
            False,
            "needs the module flash_attn_interface, which is not installed (it is built",
        ),
        ((10, 0), True, "runs on Hopper cards only"),
        ((8, 9), True, "runs on Hopper cards only"),
    ],
)
def test_flash_attention_3_needs_its_card_and_its_module(card, capability, package, said):
    device = card(capability, package=package)
    found = attention_obstacle(settle(device, flash_attention_3=True), device)
    assert (found is None) == (said is None)
    assert (said or "") in (found or "")


def test_the_switch_and_the_kernel_become_one_choice(card):
    device = card((9, 0), package=True)
    asked = settle(device, flash_attention_3=True)
    assert (asked.attention, asked.flash_attention_3) == ("flash3", True)
    resumed = settle(device, attention="flash3")
    assert (resumed.attention, resumed.flash_attention_3) == ("flash3", True)
    other = settle(device, attention="cudnn")
    assert other.flash_attention_3 is False


def test_what_a_card_will_be_tried_for_is_told_as_open(card, monkeypatch):
    device = card((9, 0), package=True)
    properties = types.SimpleNamespace(name="a card", total_memory=80 << 30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "a card")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    wish = ComputeConfig(fp8="auto", gradient_checkpointing=True, checkpointed_share=None)
    asked = OptimizationConfig(compute=wish)
    rows = {f.name: f for f in examine(asked, (), device=device, processes=1).features}
    assert (rows["FP8"].state, rows["FP8"].choice) == ("available", "auto")
    assert "timed at the first start" in rows["FP8"].reason
    assert "as few blocks as fit a card" in rows["gradient checkpointing"].reason
    assert (rows["attention"].state, rows["attention"].choice) == ("active", "auto")
    assert "times the kernels that this card has" in rows["attention"].reason
    assert "the rule would take cudnn" in rows["attention"].reason
    kernel = rows["pinned attention kernel"]
    assert (kernel.state, kernel.choice) == ("available", "auto")
    here = {f.name: f for f in examine(asked, (), device=CPU, processes=1).features}
    assert "100% of the blocks" in here["gradient checkpointing"].reason


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        ({"attention": "flash"}, "flash"),
        ({"flash_attention_3": True}, "flash3"),
        ({"precision": "fp32"}, "efficient"),
    ],
)
def test_a_kernel_that_no_start_will_time_is_told_as_chosen(card, wish, chosen):
    device = card((9, 0), package=True)
    asked = ComputeConfig(**{"precision": "bf16", "compile": "off", **wish})
    settled = settle_compute(asked, device, longest_seq_len=512)
    case = Case(
        optimization=OptimizationConfig(compute=settled), stages=(), device=device, world_size=1,
        malloc="off", rates={}, wish=asked,
    )  # fmt: skip
    assert arithmetic.attention(case).choice == chosen
    row = arithmetic.kernels(case)
    assert (row.state, row.choice) == ("active", chosen)


def states_of_kernels(wish: ComputeConfig, device: torch.device) -> list[str]:
    settled = settle_compute(wish, device, longest_seq_len=512)
    case = Case(
        optimization=OptimizationConfig(compute=settled), stages=(), device=device, world_size=1,
        malloc="off", rates={}, wish=wish,
    )  # fmt: skip
    rows = (arithmetic.attention, arithmetic.kernels, optional.flash_attention_3)
    return [row(case).state for row in rows]


def test_no_row_tells_a_kernel_as_active_that_this_card_cannot_run(card):
    wish = ComputeConfig(precision="bf16", compile="off", attention="flash")
    assert states_of_kernels(wish, card((7, 5), package=False)) == ["unavailable"] * 3
    left_open = ComputeConfig(precision="bf16", compile="off")
    assert states_of_kernels(left_open, card((7, 5), package=False)) == ["unavailable"] * 3
    assert states_of_kernels(wish, card((9, 0), package=True)) == ["active", "active", "available"]


def test_what_a_runs_start_has_timed_is_told_as_chosen(card, monkeypatch):
    """Of FP8 that it did not pay on this card, and of attention which kernel it was."""
    device = card((9, 0), package=True)
    wish = ComputeConfig(precision="bf16", compile="off", fp8="auto")
    settled = settle_compute(wish, device, longest_seq_len=512)
    chosen = OptimizationConfig(compute=settled.model_copy(update={"attention": "flash"}))
    case = Case(
        optimization=chosen, stages=(), device=device, world_size=1, malloc="off", rates={},
        wish=wish, has_begun=True,
    )  # fmt: skip
    row = optional.fp8(case)
    assert (row.state, row.choice) == ("available", "off")
    assert "timed, no part of it paid" in row.reason
    assert "width 768" not in row.reason
    assert list(summarise([row])) == ["not used: FP8 off"]
    assert arithmetic.attention(case).choice == "flash"
    unasked = replace(case, wish=wish.model_copy(update={"fp8": "off"}))
    assert "compute.fp8=auto times it" in optional.fp8(unasked).reason


@pytest.mark.parametrize(
    ("switch", "kernel", "said"),
    [
        (True, "cudnn", "flash_attention_3 is true, but attention is cudnn"),
        (False, "flash3", "attention is flash3, but flash_attention_3 is false"),
    ],
)
def test_a_switch_that_contradicts_the_kernel_is_refused(switch, kernel, said):
    with pytest.raises(ValidationError, match=said):
        ComputeConfig(flash_attention_3=switch, attention=kernel)


def test_an_old_cudnn_is_neither_taken_nor_kept(card, monkeypatch):
    """Its kernel is wrong for rows that 128 does not divide, and scores have such."""
    hopper = card((9, 0), package=False)
    old = settle(hopper)
    assert old.attention == "cudnn"
    assert attention_obstacle(old, hopper) is None
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    assert settle(hopper).attention == "flash"
    said = attention_obstacle(old, hopper)
    assert "up to cuDNN 91500, and this one is 91002; set compute.attention=auto" in str(said)


def test_a_package_for_another_cuda_is_one_sentence(card, monkeypatch, tmp_path):
    hopper = card((9, 0), package=True)
    monkeypatch.delitem(sys.modules, FLASH3_MODULE)
    path = tmp_path / f"{FLASH3_MODULE}.py"
    path.write_text("raise AttributeError('undefined symbol: _ZN3c104cuda9SetDevice')")
    monkeypatch.syspath_prepend(str(tmp_path))
    said = attention_obstacle(settle(hopper, flash_attention_3=True), hopper)
    loading = "cannot be loaded (flash_attn_interface): AttributeError: undefined symbol"
    assert f"{loading}: _ZN3c104cuda9SetDevice; set compute" in str(said)
    wish = ComputeConfig(precision="bf16", compile="off", flash_attention_3=True)
    assert states_of_kernels(wish, hopper) == ["unavailable"] * 3
    assert attention_obstacle(settle(hopper), hopper) is None  # nobody asked for it


def test_compiling_without_a_compiler_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match="needs a C\\+\\+ compiler"):
        freeze(ComputeConfig(compile="block"))
    assert freeze(ComputeConfig()).compile == "off"


def test_a_card_without_pythons_headers_compiles_nothing(card, monkeypatch, tmp_path):
    """Triton builds its launchers when the first kernel starts: the first update would fail."""
    device = card((9, 0), package=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(compiler_room, "find_spec", lambda _name: object())
    monkeypatch.setattr(compiler_room, "c_compiler", lambda: "/usr/bin/gcc")
    headers = tmp_path / "with"
    headers.mkdir()
    (headers / "Python.h").touch()
    for folder, how in ((headers, "block"), (tmp_path, "off")):
        monkeypatch.setattr(
            sysconfig, "get_path", lambda _name, _scheme, folder=folder: str(folder)
        )
        obstacle = compile_obstacle(device)
        assert (obstacle is None) == (how == "block")
        wish = ComputeConfig(precision="bf16", micro_batch_tokens=1024)
        frozen = freeze_compute(wish, device, longest_seq_len=64)
        assert frozen.compile == how
    assert f"{tmp_path} has no Python.h; install python3-dev" in str(obstacle)
    case = Case(
        optimization=OptimizationConfig(compute=frozen), stages=(), device=device, world_size=1,
        malloc="off", rates={}, wish=wish,
    )  # fmt: skip
    row = arithmetic.compilation(case)
    assert (row.state, row.why, row.asked) == ("unavailable", obstacle, False)
    # A system's Python may name another folder than that of its packages, in which triton looks.
    monkeypatch.setattr(sysconfig, "get_default_scheme", lambda: "posix_local")
    places = {"posix_local": str(tmp_path), "posix_prefix": str(headers)}
    monkeypatch.setattr(sysconfig, "get_path", lambda _name, scheme: places[scheme])
    assert compile_obstacle(device) is None


@pytest.mark.parametrize("attention", ["cudnn", "flash"])
def test_a_kernel_without_fp32_is_refused_in_fp32(card, attention):
    device = card((9, 0), package=False)
    wish = ComputeConfig(precision="fp32", attention=attention, micro_batch_tokens=1024)
    with pytest.raises(UsageError, match="has no fp32 form"):
        freeze_compute(wish, device, longest_seq_len=512)


def test_fp32_on_a_card_takes_the_kernel_that_has_it():
    wish = ComputeConfig(precision="fp32", micro_batch_tokens=1024)
    card = torch.device("cuda", 0)
    frozen = freeze_compute(wish, card, longest_seq_len=512)
    assert frozen.attention == "efficient"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_without_a_card_the_device_is_the_cpu():
    assert pick_device() == CPU
    assert pick_device(5) == CPU


@pytest.mark.parametrize(
    ("name", "said", "kind", "remedy"),
    [
        ("nvidia0", "", UsageError, "a build without CUDA; set up anew .make clean, "),
        ("nvidia3", TOO_OLD, UsageError, "too old.* built for CUDA 13.0: install a newer driver"),
        (
            "nvidia5",
            MISSING,
            UsageError,
            "no NVIDIA driver.*NVIDIA_DRIVER_CAPABILITIES=compute,utility., or",
        ),
        ("nvidia12", NOT_UP, InfrastructureError, "Error 802: .*; look with nvidia-smi and dmesg"),
    ],
)
def test_a_card_that_torch_does_not_use_is_refused_unless_it_is_hidden(
    tmp_path, monkeypatch, name, said, kind, remedy
):
    """An older driver than torch's CUDA, or a wheel for CPUs: weeks on a CPU, beside the card.

    What another start may cure is told apart: nobody would start again what was used wrongly.
    """
    unused(monkeypatch, tmp_path / "dev", card=name, said=said)
    card = re.escape(str(tmp_path / "dev" / name))
    with pytest.raises(kind, match=f"a card .{card}.*{remedy}.*CUDA_VISIBLE_DEVICES= "):
        usable_device()
    for hidden in ("", " ", "-1", "-2", "-1,0", "none", "void", "NoDevFiles", ",0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert usable_device() == CPU
    for shown in ("0", " 3,none", "GPU-8932f937", "MIG-GPU-8932f937/1/2", "all", "cuda:0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        assert type(unused_card()) is kind
    (tmp_path / "dev" / name).rename(tmp_path / "dev" / "nvidiactl")  # the driver's own
    assert usable_device() == CPU


def test_a_card_that_windows_shows_is_one_where_its_driver_is_nvidias(tmp_path, monkeypatch):
    unused(monkeypatch, tmp_path / "dev", card="dxg", said=TOO_OLD)
    driver = tmp_path / "libcuda.so.1"
    monkeypatch.setattr(choices, "_WINDOWS", tmp_path)
    assert usable_device() == CPU
    driver.touch()
    with pytest.raises(UsageError, match=r"a card .*dev/dxg"):
        usable_device()


@pytest.mark.parametrize(("marks", "asked"), [("not slow and not gpu", 0), ("gpu", 1)])
def test_the_tests_hide_a_card_before_torch_is_asked_for_it(tmp_path, monkeypatch, marks, asked):
    """Once asked, torch says that a card is there, whatever hides it, and counts none."""
    unused(monkeypatch, tmp_path / "dev")
    questions: list[str | None] = []
    monkeypatch.setattr(
        torch.cuda, "is_available", lambda: questions.append(os.environ.get(HIDING))
    )
    configure = runpy.run_path(str(TESTS / "conftest.py"))["pytest_configure"]
    option = types.SimpleNamespace(markexpr=marks)
    configure(types.SimpleNamespace(option=option))
    assert (questions, os.environ[HIDING]) == ([None] * asked, "")


def test_no_test_sees_a_card_of_this_machine_that_torch_does_not_use():
    assert not choices._DEVICES.exists()


CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
CUDA_12 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
BUILDS = [
    ((7, 5), CUDA_13, True),
    ((8, 9), CUDA_13, True),  # by the code for 8.6
    ((12, 1), CUDA_13, True),
    ((13, 0), CUDA_13, True),  # the driver compiles the text for 12.0
    ((7, 0), CUDA_13, False),
    ((7, 0), CUDA_12, True),
    ((12, 0), CUDA_12, False),
    ((12, 0), [*CUDA_12, "compute_90"], True),
    ((12, 0), ["sm_90a", "compute_90a"], False),
    ((9, 0), ["sm_90a"], True),
    ((10, 3), ["sm_100f"], True),
    ((10, 3), ["sm_100a"], False),
    ((8, 0), ["sm_86"], False),
]


@pytest.mark.parametrize(("capability", "built_for", "runs"), BUILDS)
def test_a_card_that_this_torch_has_no_kernels_for_is_refused(
    monkeypatch, capability, built_for, runs
):
    """torch itself warns, and its first kernel fails as on a card that is broken."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla")
    assert pick_device() == torch.device("cuda", 0)
    if runs:
        assert usable_device() == torch.device("cuda", 0)
        return
    with pytest.raises(UsageError) as refused:
        usable_device()
    number = "".join(map(str, capability))
    assert f"Tesla is an sm_{number}, and torch {torch.__version__}" in str(refused.value)
    assert f"only for {', '.join(built_for)};" in str(refused.value)
    monkeypatch.setattr(torch.version, "cuda", None)  # AMD's cards have other names
    assert usable_device() == torch.device("cuda", 0)


@pytest.mark.parametrize("attention", ["cudnn", "flash", "efficient", "auto"])
def test_a_kernel_in_bf16_is_refused_on_a_card_without(card, attention):
    device = card((7, 5), package=False)
    settled = settle(device, attention=attention)
    assert "has no bf16 form for cards below" in str(attention_obstacle(settled, device))
    assert list(impossible_choices(settled, device)) == ["precision", "attention"]


@pytest.mark.parametrize(("capability", "advises"), [((7, 5), False), ((8, 0), True)])
def test_bf16_is_advised_on_cards_that_have_it(card, capability, advises):
    device = card(capability, package=False)
    compute = ComputeConfig(precision="fp32", attention="flash", compile="off", threads=1)
    told = str(attention_obstacle(compute, device))
    assert "has no fp32 form; set compute.attention=auto" in told
    assert ("compute.precision=bf16" in told) == advises


def test_an_old_card_multiplies_attention_in_fp32_or_by_torchs_own_choice(card):
    device = card((7, 5), package=False)
    for possible in (
        settle(device, attention="sdpa"),
        ComputeConfig(precision="fp32", attention="efficient", compile="off", threads=1),
    ):
        assert attention_obstacle(possible, device) is None
        assert list(impossible_choices(possible, device)) == []


def test_the_flags_of_a_processor_are_words():
    assert all(flag and " " not in flag for flag in cpu_flags())


def test_the_rate_of_matrix_products_is_positive_and_possible():
    assert 1e8 < gemm_flops(torch.float32, repeats=2) < 1e15


def test_freed_memory_is_spoken_of_in_one_phrase():
    """In a process of its own: the switch is for a whole process and cannot be taken back."""
    program = "from yxanul.hardware.memory import keep_freed_memory; print(keep_freed_memory())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=SRC, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in {"active", "refused by mallopt", "not available (no glibc)"}


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"memory.max": "max\n"}, None),
        ({"memory.max": "1073741824\n"}, 2**30),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"memory/memory.limit_in_bytes": "1073741824\n"}, 2**30),
    ],
)
def test_a_container_has_the_memory_that_it_is_given(tmp_path, monkeypatch, files, limit):
    monkeypatch.setattr(cores_room, "_CGROUP", tmp_path)
    machine = memory_bytes(CPU)  # no file is there yet
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert memory_bytes(CPU) == (limit or machine)


def test_the_most_that_was_held_is_this_processs_and_never_falls():
    before = most_held_bytes(CPU)
    assert 2**26 < before < memory_bytes(CPU)  # Python and torch alone are more than 64 MiB
    held = torch.ones(before // 4 + 2**26)
    grown = most_held_bytes(CPU)
    assert grown > before
    del held
    assert most_held_bytes(CPU) > 0.99 * grown  # Linux counts in pages, and loosely


@pytest.mark.parametrize("told", ["Name:\tpython\n", None])
def test_where_the_kernel_does_not_tell_what_was_held_another_count_stands_in(
    tmp_path, monkeypatch, told
):
    """gVisor's /proc has no such line: a row must not end a run."""
    path = tmp_path / "status"
    if told is not None:
        path.write_text(told)
    monkeypatch.setattr(device_room, "_STATUS", path)
    assert 2**26 < most_held_bytes(CPU) < memory_bytes(CPU)


def test_what_a_process_was_before_it_became_this_program_is_not_counted():
    """A notebook's memory must not be that of the run it starts."""
    asked = "import torch; from yxanul.hardware.device import most_held_bytes as most; "
    asked += "print(most(torch.device('cpu')))"
    torch.ones(2**28).sum()  # 1 GiB is held here, at least at one time
    started = [sys.executable, "-c", asked]
    done = subprocess.run(started, capture_output=True, text=True, check=True, cwd=SRC)
    assert int(done.stdout) < 2**30 < most_held_bytes(CPU)
