"""A program that reads sources and benchmarks of the hub as it is told, a JSON object a line.

The hub's libraries look for its address when they are imported, so reading from the stand-in takes
a process of its own; one process serves many tests. It answers with one JSON object a line.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.data.hub_standin import StandIn
from yxanul.config.schema import SourceConfig
from yxanul.data.benchmarks.read import read_benchmark
from yxanul.data.sources.catalog import Opening, open_source
from yxanul.data.sources.hub.patience import Patience
from yxanul.errors import StoppedOnRequest, YxanulError

# Waits of milliseconds, so that a test costs no more than its requests; a machine that stands still
# for a while is no silence.
QUICK = {"tries": 4, "first_wait_s": 0.001, "longest_wait_s": 0.01, "silence_s": 60.0}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Read a benchmark or a source; what came before an error is told too."""
    given: dict[str, Any] = {"news": []}
    try:
        read = answer_benchmark if "task" in request else answer_source
        read(request, given)
    except YxanulError as error:
        given |= {"error": str(error), "exit_code": error.exit_code, "kind": type(error).__name__}
    return given | {"loads_torch": "torch" in sys.modules}


def answer_benchmark(request: dict[str, Any], given: dict[str, Any]) -> None:
    """Read the items of a task, and its worked examples if it is told to."""
    found = read_benchmark(
        request["task"],
        bench="hub",
        with_shots=request["with_shots"],
        news=given["news"].append,
        patience=Patience(**request["patience"]),
    )
    given |= asdict(found)


def answer_source(request: dict[str, Any], given: dict[str, Any]) -> None:
    """Read a source, stop after `stop_after` documents and go on from there.

    `stops` = whoever hears the first line of news asks to stop, as a signal does.
    """
    given |= {"ids": [], "texts": [], "urls": [], "dropped": {}}

    def listen(line: str) -> None:
        given["news"].append(line)
        if request["stops"]:
            raise StoppedOnRequest("stopped by SIGTERM")

    opening = Opening(listen, request["begun"], Patience(**request["patience"]))
    source = open_source(SourceConfig(**request["source"]), "hub", seed=1, opening=opening)
    given["version"] = source.version
    documents, left = source.documents(), request["stop_after"]
    while (document := next(documents, None)) is not None:
        given["ids"].append(document.id)
        given["texts"].append(document.text)
        given["urls"].append(document.url)
        if len(given["ids"]) == left:
            mark = json.loads(json.dumps(source.bookmark.mark()))
            documents.close()
            documents = source.bookmark.resume(mark)
    given["dropped"] = source.dropped


class Reader:
    """The program, running; `read` is one request."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self, hub_id: str, **options: Any) -> dict[str, Any]:
        """Return what reading the set gave; options are those of a source, or of `answer`."""
        request = {"stop_after": None, "begun": None, "stops": False, "patience": {}}
        request |= {name: options.pop(name) for name in list(options) if name in request}
        request["patience"] = QUICK | request["patience"]
        template = {"text_template": "{text}"} | options
        request["source"] = {"name": "far", "domain": "d", "weight": 1.0, "hub_id": hub_id}
        request["source"] |= template
        return self._ask(request)

    def read_benchmark(self, task: str, *, with_shots: bool = False) -> dict[str, Any]:
        """Return what reading a task's items gave."""
        return self._ask({"task": task, "with_shots": with_shots, "patience": QUICK})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def reading_from(hub: StandIn, home: Path, **environment: str) -> Iterator[Reader]:
    """Start the program for a hub; `home` is where the libraries may put their caches."""
    command = [sys.executable, "-m", "tests.data.hub_reader"]
    root = Path(__file__).parents[2]
    with (home.parent / f"{home.name}.stderr").open("w") as said:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=hub.environment(home, **environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            yield Reader(process)
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            code = process.wait(timeout=60)
            process.stdout.close()
    # Nothing but news and errors, which travel as JSON here: the libraries must not chatter.
    chatter = (home.parent / f"{home.name}.stderr").read_text()
    assert (code, chatter) == (0, ""), f"exit code {code}, stderr: {chatter}"


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
    sys.stderr.flush()
    # Not by Python's end: a thread of Arrow's that lets go of a file in that moment aborts the
    # program (apache/arrow#39862). The product writes shards for a while after its last row.
    os._exit(0)
