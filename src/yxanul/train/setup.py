"""From a request to a session.

Configuration, data, frozen choices, model and optimizers, in this order; nothing is trained here.
"""

import json
import math
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import yxanul
from yxanul.config.contradictions import check_config
from yxanul.config.load import diff_configs, dump_config, load_config, parse_config, stage_names
from yxanul.config.schema import RunConfig, StageConfig, evaluation_seq_len
from yxanul.curriculum.stages import StagePlan, longest_seq_len, plan_stages
from yxanul.data.manifest import MANIFEST_NAME, Manifest, load_manifest, require_stages
from yxanul.data.prepare import prepare
from yxanul.data.shards import open_stream
from yxanul.data.tokenizer import load_tokenizer
from yxanul.data.validation import validation_documents
from yxanul.data.verify import verify
from yxanul.errors import ConfigError, StoppedOnRequest
from yxanul.hardware.choices import cpu_flags, freeze_compute
from yxanul.hardware.memory import keep_freed_memory
from yxanul.hardware.peak import peak_flops
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import Optimizers
from yxanul.parallel.processes import Processes
from yxanul.parallel.wrapping import wrap_model
from yxanul.plan.budget import tokens_for_epochs
from yxanul.runfolder.durable import write_atomic, write_json
from yxanul.runfolder.layout import RunFolder
from yxanul.train.progress import RunProgress
from yxanul.train.request import RunRequest
from yxanul.train.scoring import HeldOut, Scorer
from yxanul.train.session import Corpus, Session
from yxanul.train.signals import StopRequest
from yxanul.train.step import Engine

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

# Settings that may differ on resume, because they change no weight.
_MAY_CHANGE = ("checkpoint.", "logging.", "compute.keep_freed_memory")
_FROZEN = ("precision", "attention", "threads", "micro_batch_tokens")
# What `auto` looks like, so that a resume takes the choice that the run was begun with.
_OPEN = ("auto", None)


@dataclass(frozen=True)
class Machine:
    """This process's place, device and voice."""

    processes: Processes
    device: torch.device
    progress: RunProgress
    stop: StopRequest


def read_config(request: RunRequest) -> RunConfig:
    """Load all stages, or those up to the request's: replay reads the earlier ones."""
    stages: list[str] | None = None
    if request.stage is not None:
        known = stage_names(request.config_dir)
        # An unknown stage is left to load_config, which names the known ones.
        stages = [request.stage]
        if request.stage in known:
            stages = list(known[: known.index(request.stage) + 1])
    overrides = list(request.overrides)
    if request.data is not None:
        overrides.append(f"data.source={json.dumps(request.data)}")
    return load_config(request.config_dir, stages=stages, model=request.model, overrides=overrides)


def prepare_corpus(config: RunConfig, folder: RunFolder, *, machine: Machine) -> Corpus:
    """Prepare the run's data, or find it ready in RUN/data or in the folder of --data.

    Every byte of every shard is verified.
    """
    shared = Path(config.stages[0].data.source)
    if (shared / MANIFEST_NAME).is_file():
        root, manifest = shared, load_manifest(shared)
        if machine.processes.is_main:
            write_json(folder.data_pointer, {"prepared": str(shared.resolve())})
    else:
        root = folder.data
        if machine.processes.is_main:
            prepare(config.stages, root, progress=partial(_say_or_stop, machine))
        machine.processes.barrier()
        manifest = load_manifest(root)
    require_stages(manifest, [stage.name for stage in config.stages])
    if machine.processes.is_main:
        verify(manifest, root)
    names = {stage.name for stage in config.stages}
    sources = [name for name, source in manifest.sources.items() if source.stage in names]
    streams = {n: open_stream(manifest, root, source=n, split="train") for n in sources}
    return Corpus(manifest, streams, root)


def _say_or_stop(machine: Machine, text: str) -> None:
    """Pass on a line of news of the preparation, which is where it can be stopped."""
    machine.progress.say(text)
    if machine.stop.asked:
        raise StoppedOnRequest(
            f"stopped by {machine.stop.signal_name} while the data was prepared; "
            "start the same command again to go on"
        )


def replan_epochs(config: RunConfig, stage: str, *, epochs: float, manifest: Manifest) -> RunConfig:
    """Set the stage's budget to `epochs` passes over its own sources, replay added on top."""
    own = sum(s.train.tokens for s in manifest.sources.values() if s.stage == stage)

    def replan(item: StageConfig) -> StageConfig:
        if item.name != stage:
            return item
        share = item.data.replay_share if item is not config.stages[0] else 0.0
        total = tokens_for_epochs(epochs, own, replay_share=share)
        training = item.training.model_copy(update={"total_tokens": total})
        return item.model_copy(update={"training": training})

    planned = config.model_copy(update={"stages": tuple(replan(item) for item in config.stages)})
    check_config(planned)
    return planned


def freeze_config(config: RunConfig, folder: RunFolder, *, machine: Machine) -> RunConfig:
    """Replace every `auto`, by the run's own earlier choices if it has any.

    RUN/config.yaml is written, or held against: other settings than the run's are a `ConfigError`.
    """
    before = (
        parse_config(folder.config.read_text(), str(folder.config))
        if folder.config.exists()
        else None
    )
    compute = config.optimization.compute
    if before is not None:
        chosen = before.optimization.compute
        opened = {k: getattr(chosen, k) for k in _FROZEN if getattr(compute, k) in _OPEN}
        compute = compute.model_copy(update=opened)
    compute = freeze_compute(
        compute,
        config.model,
        device=machine.device,
        longest_seq_len=longest_seq_len(config.stages),
    )
    optimization = config.optimization.model_copy(update={"compute": compute})
    frozen = config.model_copy(update={"optimization": optimization})
    if before is not None:
        frozen = _continue_config(before, frozen, folder=folder)
    if machine.processes.is_main:
        write_atomic(folder.config, dump_config(frozen))
    return frozen


def build_session(
    config: RunConfig, corpus: Corpus, *, folder: RunFolder, request: RunRequest, machine: Machine
) -> Session:
    """Build model, optimizers, scorer and clockwork, with new weights."""
    compute = config.optimization.compute
    torch.set_num_threads(compute.threads or 1)
    torch.set_float32_matmul_precision(compute.float32_matmul_precision)
    torch.manual_seed(config.optimization.seed)
    dtype = DTYPES[compute.precision]
    model = Transformer.initialised(
        config.model,
        seed=config.optimization.seed,
        compute_dtype=dtype,
        attention=compute.attention,
        loss_chunk_tokens=compute.loss_chunk_tokens,
        gradient_checkpointing=compute.gradient_checkpointing,
    ).to(machine.device)
    engine = Engine(
        model=wrap_model(model, compute, processes=machine.processes, device=machine.device),
        optimizers=Optimizers(model, config.optimization.optimizer, muon_dtype=dtype),
        processes=machine.processes,
        device=machine.device,
        micro_batch_tokens=compute.micro_batch_tokens or 1,
    )
    stages = plan_stages(config)
    active = tuple(plan for plan in stages if request.stage in (None, plan.name))
    limit = math.inf if request.max_steps is None else active[0].first_step + request.max_steps
    return Session(
        config=config,
        folder=folder,
        stages=stages,
        active=active,
        step_limit=limit,
        corpus=corpus,
        model=model,
        engine=engine,
        scorer=Scorer(
            folder.scores, _held_out(config, corpus, stages=stages), tokenizer=load_tokenizer()
        ),
        progress=machine.progress,
        stop=machine.stop,
        peak_flops=peak_flops(machine.device, dtype),
        parent=None,
    )


def prepare_process(config: RunConfig) -> str:
    """Do what must precede the first large allocation; return in a phrase what came of it."""
    if not config.optimization.compute.keep_freed_memory:
        return "off"
    return keep_freed_memory()


def record_environment(
    config: RunConfig, folder: RunFolder, *, command: str, machine: Machine
) -> list[str]:
    """Write RUN/environment.json; return what differs from the run's last machine."""
    device = machine.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    now: dict[str, Any] = {
        "yxanul": yxanul.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": name,
        "world_size": machine.processes.world_size,
        "threads": config.optimization.compute.threads,
        "seed": config.optimization.seed,
    }
    before: dict[str, Any] = {}
    with suppress(FileNotFoundError):
        before = json.loads(folder.environment.read_text(encoding="utf-8"))
    write_json(folder.environment, {**now, "command": command, "cpu_flags": sorted(cpu_flags())})
    return [f"{k}: {before[k]} -> {v}" for k, v in now.items() if before.get(k, v) != v]


def _continue_config(before: RunConfig, now: RunConfig, *, folder: RunFolder) -> RunConfig:
    """Return `now` with the stages that only `before` knows; other differences are refused."""
    known = {stage.name for stage in now.stages}
    later = tuple(stage for stage in before.stages if stage.name not in known)
    shared = {stage.name for stage in before.stages} & known
    common = [c.model_copy(update={"stages": _only(c.stages, shared)}) for c in (before, now)]
    changes = [
        f"{path}: {old} -> {new}"
        for path, old, new in diff_configs(*common)
        if not path.startswith(_MAY_CHANGE)
    ]
    if changes:
        raise ConfigError(
            f"{folder.root} was begun with other settings ({'; '.join(changes)}); "
            "use them again, or choose another --out"
        )
    return now.model_copy(update={"stages": (*now.stages, *later)})


def _only(stages: Sequence[StageConfig], names: set[str]) -> tuple[StageConfig, ...]:
    return tuple(stage for stage in stages if stage.name in names)


def _held_out(
    config: RunConfig, corpus: Corpus, *, stages: Sequence[StagePlan]
) -> dict[str, HeldOut]:
    """Read each domain's held-out documents, its sources in equal parts."""
    held_out: dict[str, HeldOut] = {}
    sources = corpus.manifest.sources
    for plan in stages:
        own = {name: source.domain for name, source in sources.items() if source.stage == plan.name}
        for domain in dict.fromkeys(own.values()):
            names = [name for name, itself in own.items() if itself == domain]
            budget = plan.config.evaluation.tokens_per_domain // len(names)
            documents = [
                document
                for name in names
                for document in validation_documents(
                    corpus.manifest, corpus.root, source=name, max_tokens=budget
                )
            ]
            held_out[domain] = HeldOut(documents, evaluation_seq_len(config, plan.config))
    return held_out


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
