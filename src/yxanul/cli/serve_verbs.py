"""`serve`: a trained model over HTTP, as OpenAI's completions API, with a page to try it."""

from functools import partial
from typing import Annotated

import typer

from yxanul.cli import options
from yxanul.cli.output import print_json, say
from yxanul.cli.writing import open_writing_model
from yxanul.serve.capacity import USUAL_BATCH
from yxanul.serve.server import TOKEN_VARIABLE, Endpoint, Ready
from yxanul.serve.server import serve as serve_model

Host = Annotated[
    str, typer.Option("--host", help="Address to listen on; beyond the loopback with a token only.")
]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 = a free one.")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar=TOKEN_VARIABLE,
        show_envvar=False,
        help="What requests must bring. Others on this machine can read it in the list of "
        f"processes: better set the environment variable {TOKEN_VARIABLE}.",
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch",
        min=1,
        max=1024,
        help=f"Texts that are written at the same time; default: {USUAL_BATCH}, fewer where memory "
        "has no room for them.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print a JSON object on stdout when requests are taken, and another one if it fails.",
    ),
]
_HERE = Endpoint()


def serve(
    model: options.TrainedModel,
    host: Host = _HERE.host,
    port: Port = _HERE.port,
    token: Token = None,
    batch: Batch = None,
    json: Json = False,
) -> None:
    """Serve a trained model as OpenAI's completions API, with a page to try it in a browser.

    Requests are written together, each as `yxanul generate` would alone. Ctrl-C ends it.

    Example: yxanul serve runs/first --port 8000
    """

    def ready(found: Ready) -> None:
        say(
            f"{found.label}, is served as {found.model} at {found.url}/v1; a page to try it: "
            f"{found.url}"
        )
        if json:
            print_json(
                {
                    "url": found.url,
                    "model": found.model,
                    "checkpoint": str(found.place),
                    "step": found.step,
                }
            )

    open_model = partial(open_writing_model, model)
    serve_model(open_model, Endpoint(host, port, token), batch=batch, tell=say, ready=ready)
    say("stopped")
