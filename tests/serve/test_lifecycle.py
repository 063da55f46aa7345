"""From the first word to the last: how a server starts, whom it lets in, and how it ends."""

import signal
import threading

import openai
import pytest

from tests.serve.conftest import serving, start, wait_for
from tests.serve.test_batching import health
from tests.serve.test_refusals import error

TOKEN = "a-secret"


def client(server, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def test_a_server_with_a_token_from_its_first_word_to_its_last(run):
    """One server for all of it: each start takes seconds."""
    with serving(run, "--batch", 1, token=TOKEN) as server:
        with client(server, "another") as wrong, pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        for header in ({}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer"}):
            status, _, message = error(server, b"", path="/v1/models", method="GET", **header)
            assert status == 401
            assert "Authorization: Bearer TOKEN" in message
        with client(server, TOKEN) as right:
            assert right.models.list().data[0].id == "tales"
            assert health(server)["token_required"] is True
            queue_fills(server, right)
            texts_end_with_the_server(server, right)


def queue_fills(server, right: openai.OpenAI) -> None:
    """One text is written, as many wait as may, and the next is told to come back."""
    many = right.completions.create(model="tales", prompt="a", n=256, max_tokens=7000, stream=True)
    wait_for(lambda: health(server)["running"] == 1)
    with pytest.raises(openai.RateLimitError, match="255 texts are waiting") as refused:
        right.completions.create(model="tales", prompt="a", n=2)
    assert refused.value.response.headers["retry-after"] == "1"
    many.close()
    wait_for(lambda: health(server)["running"] + health(server)["waiting"] == 0)


def texts_end_with_the_server(server, right: openai.OpenAI) -> None:
    """What is written and what waits is told of the end, and the exit code is 0."""
    told: list[openai.APIError] = []

    def wait() -> None:
        with pytest.raises(openai.APIError) as ended:
            right.completions.create(model="tales", prompt="b", max_tokens=7000)
        told.append(ended.value)

    stream = right.completions.create(model="tales", prompt="a", max_tokens=8000, stream=True)
    next(stream)
    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_for(lambda: health(server)["waiting"] == 1)
    server.process.send_signal(signal.SIGINT)
    with pytest.raises(openai.APIError, match="shutting down"):
        list(stream)
    waiting.join(20)
    assert told[0].status_code == 503
    code, err = server.process.wait(20), server.process.stderr.read()
    assert code == 0, err
    assert err.endswith("stopped\n")
    assert "Traceback" not in err


def test_sigterm_ends_an_idle_server_at_once(run):
    server = start(run)
    code, err = server.stop(signal.SIGTERM)
    assert code == 0
    said = [line for line in err.splitlines() if "this device lacks" not in line]
    assert said[0].endswith(
        f"is served as tales at {server.url}/v1; a page to try it: {server.url}"
    )
    assert said[1:] == ["stopped"]


def test_a_port_in_use_is_one_sentence(call, run, server):
    port = server.url.rpartition(":")[2]
    code, out, err = call("serve", run, "--port", port)
    assert (code, out) == (30, "")
    assert f"cannot listen on 127.0.0.1, port {port}: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--host", "0.0.0.0", "--port", "0"), "set YXANUL_SERVE_TOKEN"),
        (("--host", "::", "--port", "0"), "set YXANUL_SERVE_TOKEN"),
        (("--host", "no.such.name.invalid"), "cannot listen on no.such.name.invalid"),
        (("--port", "65536"), "--port"),
        (("--batch", "0"), "--batch"),
        (("--token", ""), "the token is empty"),
        (("--token", "two words"), "printable ASCII"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence(call, run, words, told):
    code, out, err = call("serve", run, *words)
    assert (code, out) == (30, "")
    assert told in err
    assert "Traceback" not in err


def test_what_is_no_model_is_told(call, tmp_path):
    code, _, err = call("serve", tmp_path, "--port", "0")
    assert code == 30
    assert "run folder" in err


def test_help_has_an_example_and_speaks_of_the_variable(call):
    code, out, _ = call("serve", "--help")
    assert code == 0
    assert "Example: yxanul serve" in out
    assert "YXANUL_SERVE_TOKEN" in out
