"""`generate`: let a trained model write on from a prompt."""

import sys
from typing import Annotated, Any

import typer

from yxanul.cli import options
from yxanul.cli.output import print_json, say
from yxanul.errors import UsageError
from yxanul.evaluate.answers.completion import Completion, complete
from yxanul.evaluate.models.loaded import load_model
from yxanul.model.generation import GenerationOptions

Prompt = Annotated[
    str,
    typer.Argument(
        metavar="PROMPT",
        help='Text to write on from; "" begins a document, - reads standard input.',
    ),
]
MaxNewTokens = Annotated[
    int, typer.Option("--max_new_tokens", help="Tokens to write at most, from 1.")
]
Temperature = Annotated[
    float, typer.Option("--temperature", help="0 = the likeliest token every time.")
]
TopK = Annotated[
    int | None, typer.Option("--top_k", help="Sample among so many tokens; default: all.")
]
TopP = Annotated[
    float,
    typer.Option(
        "--top_p",
        help="Sample among the likeliest tokens that together have this probability; 1 = all.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed writes the same text.")]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", help="End before this text. May be given many times."),
]
_DEFAULTS = GenerationOptions()


def generate(
    model: options.TrainedModel,
    prompt: Prompt,
    max_new_tokens: MaxNewTokens = _DEFAULTS.max_new_tokens,
    temperature: Temperature = _DEFAULTS.temperature,
    top_k: TopK = _DEFAULTS.top_k,
    top_p: TopP = _DEFAULTS.top_p,
    seed: Seed = _DEFAULTS.seed,
    stop: Stop = None,
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
    text = _standard_input() if prompt == "-" else prompt
    _refuse_half_characters(text, *(stop or ()))
    loaded = load_model(model)
    for note in loaded.notes:
        say(note)
    done = complete(
        loaded.model,
        loaded.tokenizer,
        prompt=text,
        options=chosen,
        stop_texts=stop or (),
        show=None if json else _show,
    )
    if not json:
        print()
    say(
        f"{loaded.info.path}, step {loaded.info.step:,}, seed {seed}: {len(done.tokens)} tokens, "
        f"{done.tokens_per_s:,.0f} tokens/s, ended: {done.stop_reason}"
    )
    if json:
        origin = {"seed": seed, "model": str(loaded.info.path), "step": loaded.info.step}
        print_json({**_as_json(done), **origin})


def _as_json(done: Completion) -> dict[str, Any]:
    return {
        "prompt": done.prompt,
        "text": done.text,
        "tokens": len(done.tokens),
        "token_ids": done.tokens,
        "stop_reason": done.stop_reason,
        "tokens_per_s": done.tokens_per_s,
    }


def _standard_input() -> str:
    # A byte that is no text becomes half a character, as in a word of the command line.
    return sys.stdin.buffer.read().decode("utf-8", errors="surrogateescape")


def _refuse_half_characters(*texts: str) -> None:
    """Refuse bytes that are not UTF-8: Python reads them as lone surrogates."""
    for text in texts:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise UsageError("the prompt or --stop is not UTF-8 text; write it in UTF-8")


def _show(piece: str) -> None:
    print(piece, end="", flush=True)
