"""`bench`: what this machine does of this program's work, in a minute or less."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from yxanul.bench.loader import measure_loader
from yxanul.bench.optimizers import measure_optimizers
from yxanul.bench.step import StepFigures, measure_fitting, step_workload
from yxanul.bench.tokenizing import measure_tokenizer
from yxanul.cli import options
from yxanul.cli.output import plain_console, print_json, say
from yxanul.config.load import load_config
from yxanul.config.schema import ComputeConfig
from yxanul.errors import YxanulError
from yxanul.hardware.choices import DTYPES, settle_compute, usable_device
from yxanul.hardware.device import device_name
from yxanul.hardware.failures import naming_failed_hardware
from yxanul.train.running.setup import prepare_process
from yxanul.units import format_flops

app = typer.Typer(
    help="Measure this machine: an update, the reading of batches, the tokenizer, the optimizers."
    "\n\nExample: yxanul bench step --model nano",
    no_args_is_help=True,
)

ConfigDir = Annotated[
    Path, typer.Option("--config_dir", help="Folder whose settings and shapes are measured.")
]
Model = Annotated[str, typer.Option("--model", help="A shape of CONFIG_DIR/models, or a file.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Updates that are timed.")]
_CONFIGS = Path("configs")


@app.command("step")
@naming_failed_hardware()
def step(
    model: Model = "nano",
    seq_len: Annotated[int, typer.Option("--seq_len", min=2, help="Tokens of a row.")] = 256,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            "--micro_batch",
            min=1,
            help="Rows; default: those of compute.micro_batch_tokens, else 2,048 tokens on a CPU, "
            "on a card at most 32,768, as fits by arithmetic, halved where that does not fit.",
        ),
    ] = None,
    steps: Steps = 10,
    config_dir: ConfigDir = _CONFIGS,
    overrides: options.Overrides = None,
    json: options.Json = False,
) -> None:
    """Time whole updates of random tokens: tokens/s and MFU; 1 if any was compiled for anew.

    Example: yxanul bench step --model nano --seq_len 256
    """
    config = load_config(config_dir, model=model, overrides=overrides or [])
    prepare_process(config)
    device = usable_device()
    load = step_workload(
        config.model,
        config.optimization,
        seq_len=seq_len,
        micro_batch=micro_batch,
        steps=steps,
        device=device,
    )
    say(f"{load.model.name}: {load.updates} updates of {load.rows} rows of {load.seq_len:,} tokens")
    is_asked = micro_batch is not None
    timed, figures = measure_fitting(load, optimization=config.optimization, is_asked=is_asked)
    if timed.rows < load.rows:
        say(f"only {timed.rows} rows fitted the card")
    if json:
        print_json(figures.as_json())
    else:
        _print_step(figures, config.optimization.compute, device=device)
    if figures.recompiles:
        say(
            f"torch.compile made {figures.recompiles} graphs after the first update, though all "
            "shapes were the same: this is a fault; TORCH_LOGS=recompiles says what they were for"
        )
        raise typer.Exit(YxanulError.exit_code)


def _print_step(figures: StepFigures, wish: ComputeConfig, *, device: torch.device) -> None:
    again = figures.recompiles
    is_open = wish.fp8 == "auto"
    fp8 = f"{figures.fp8} (auto was not tried)" if is_open else figures.fp8
    of = "these products" if device.type == "cpu" else "the card's peak"
    mfu = "the card's peak is not known" if figures.mfu is None else f"{figures.mfu:.1%} of {of}"
    _print(
        f"{figures.model}, {figures.parameters:,} parameters, on {figures.device}",
        [
            ("tokens/s", f"{figures.tokens_per_s:,.0f}"),
            ("MFU, PaLM convention", mfu),
            ("products", f"{format_flops(figures.gemm_flops)} in {figures.precision}"),
            ("an update", f"{figures.micro_batch} rows of {figures.seq_len:,} tokens"),
            (
                "settings",
                f"attention {figures.attention}, compile {figures.compiled}, FP8 {fp8}, "
                f"{figures.optimizer}",
            ),
            ("first update", f"{figures.first_s:.2f} s"),
            ("graphs made later", "nothing is compiled" if again is None else str(again)),
        ],
    )


@app.command("loader")
def loader(
    data: Annotated[Path, typer.Option("--data", help="A prepared folder, or RUN/data.")],
    config_dir: ConfigDir = _CONFIGS,
    batches: Annotated[int, typer.Option("--batches", min=1, help="Batches of each length.")] = 20,
    overrides: options.Overrides = None,
    json: options.Json = False,
) -> None:
    """Time the reading of batches, at every stage and length.

    Example: yxanul bench loader --config_dir configs/embedded --data runs/first/data
    """
    config = load_config(config_dir, overrides=overrides or [])
    found = list(measure_loader(config, data, batches=batches, say=say))
    if json:
        print_json({"loader": [one.as_json() for one in found]})
        return
    _print(
        "a batch, median",
        [
            (f"{one.stage}, {one.seq_len:,}", f"{one.ms:.2f} ms, {one.tokens_per_s:,.0f} tokens/s")
            for one in found
        ],
    )


@app.command("tokenizer")
def tokenizer(
    documents: Annotated[
        int, typer.Option("--documents", min=1, help="Lead paragraphs of Wikipedia to encode.")
    ] = 2000,
    json: options.Json = False,
) -> None:
    """Time the encoding of text.

    Example: yxanul bench tokenizer
    """
    found = measure_tokenizer(documents=documents)
    if json:
        print_json(found.as_json())
        return
    _print(
        f"{found.documents:,} documents, {found.tokens:,} tokens, {found.cores} cores",
        [
            ("tokens/s", f"{found.tokens_per_s:,.0f}"),
            ("text", f"{found.bytes_per_s / 1e6:.1f} MB/s"),
        ],
    )


@app.command("optimizer")
@naming_failed_hardware()
def optimizer(
    model: Model = "nano",
    steps: Steps = 10,
    config_dir: ConfigDir = _CONFIGS,
    overrides: options.Overrides = None,
    json: options.Json = False,
) -> None:
    """Time clipping and a step of each optimizer.

    Example: yxanul bench optimizer --model nano
    """
    config = load_config(config_dir, model=model, overrides=overrides or [])
    prepare_process(config)
    device = usable_device()
    compute = settle_compute(config.optimization.compute, device, longest_seq_len=256)
    torch.set_num_threads(compute.threads or 1)
    dtype = DTYPES[compute.precision]
    wish = config.optimization.optimizer
    timed = measure_optimizers(config.model, wish, steps=steps, device=device, dtype=dtype, say=say)
    found = list(timed)
    if json:
        shape = {"model": config.model.name, "device": device_name(device)}
        print_json({**shape, "optimizers": [one.as_json() for one in found]})
        return
    _print(
        f"{config.model.name} on {device_name(device)}: clipping and step, median",
        [
            (one.optimizer, f"{one.ms:.1f} ms, state {one.state_bytes / 1e6:,.0f} MB")
            for one in found
        ],
    )


def _print(title: str, rows: Sequence[tuple[str, Any]]) -> None:
    table = Table(box=None, show_header=False)
    table.add_column(min_width=24)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = plain_console()
    console.print(title, soft_wrap=True)
    console.print(table)
