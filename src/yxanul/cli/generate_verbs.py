"""`generate`: let a trained model write on from a prompt."""

import sys
from typing import Annotated

import typer

from yxanul.cli import options
from yxanul.cli.output import print_json, say
from yxanul.evaluate.completion import complete
from yxanul.evaluate.loaded import load_model
from yxanul.model.generation import GenerationOptions

_DEFAULTS = GenerationOptions()


def generate(
    model: options.TrainedModel,
    prompt: Annotated[
        str,
        typer.Argument(help='Text to write on from; "" begins a document, - reads standard input.'),
    ],
    max_new_tokens: Annotated[
        int, typer.Option("--max_new_tokens", help="Tokens to write at most.")
    ] = _DEFAULTS.max_new_tokens,
    temperature: Annotated[
        float, typer.Option("--temperature", help="0 = the likeliest token every time.")
    ] = _DEFAULTS.temperature,
    top_k: Annotated[
        int | None, typer.Option("--top_k", help="Sample among so many tokens; default: all.")
    ] = _DEFAULTS.top_k,
    top_p: Annotated[
        float,
        typer.Option(
            "--top_p",
            help="Sample among the likeliest tokens that together have this probability; 1 = all.",
        ),
    ] = _DEFAULTS.top_p,
    seed: Annotated[
        int, typer.Option("--seed", help="The same seed writes the same text.")
    ] = _DEFAULTS.seed,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="End before this text. May be given many times."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Let a trained model write on from a prompt, the same text for the same seed.

    Example: yxanul generate runs/first "The city of" --temperature 0.7 --seed 3
    """
    chosen = GenerationOptions(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    text = sys.stdin.read() if prompt == "-" else prompt
    loaded = load_model(model)
    for note in loaded.notes:
        say(note)
    say(f"{loaded.info.path}, step {loaded.info.step:,}, seed {seed}")
    done = complete(
        loaded.model,
        loaded.tokenizer,
        prompt=text,
        options=chosen,
        stop_texts=stop or (),
        show=None if json else _show,
    )
    if json:
        print_json(
            {
                "prompt": done.prompt,
                "text": done.text,
                "tokens": len(done.tokens),
                "token_ids": done.tokens,
                "stop_reason": done.stop_reason,
                "tokens_per_s": done.tokens_per_s,
                "seed": seed,
                "model": str(loaded.info.path),
                "step": loaded.info.step,
            }
        )
        return
    print()
    say(f"{len(done.tokens)} tokens, {done.tokens_per_s:,.0f} tokens/s, ended: {done.stop_reason}")


def _show(piece: str) -> None:
    print(piece, end="", flush=True)
