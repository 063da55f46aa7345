"""From the first word to the last: how a server starts, whom it lets in, and how it ends."""

import signal
import threading

import openai
import pytest

from tests.serve.conftest import serving, wait_for
from tests.serve.test_batching import health
from tests.serve.test_playground import ENDED, click, fill, show, text
from tests.serve.test_refusals import error

TOKEN = "a-secret"


@pytest.fixture(scope="module")
def guarded(run):
    """A server with a token that writes one text at a time; the last of its tests ends it."""
    with serving(run, "--batch", 1, token=TOKEN) as found:
        yield found


def client(server, key: str = TOKEN) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def test_a_token_is_asked_for(guarded):
    with client(guarded, "another") as wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()
    for header in ({}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer"}):
        status, _, message = error(guarded, b"", path="/v1/models", method="GET", **header)
        assert status == 401
        assert "Authorization: Bearer TOKEN" in message
    with client(guarded) as right:
        assert right.models.list().data[0].id == "tales"
    assert health(guarded)["token_required"] is True


def test_when_the_queue_is_full_the_next_one_is_told_to_come_back(guarded):
    with client(guarded) as right:
        many = right.completions.create(
            model="tales", prompt="a", n=256, max_tokens=7000, stream=True
        )
        wait_for(lambda: health(guarded)["running"] == 1)
        with pytest.raises(openai.RateLimitError, match="255 texts are waiting") as refused:
            right.completions.create(model="tales", prompt="a", n=2)
        assert refused.value.response.headers["retry-after"] == "1"
        many.close()
        wait_for(lambda: health(guarded)["running"] + health(guarded)["waiting"] == 0)


def test_the_playground_asks_for_a_token(browser, guarded):
    show(browser, guarded)
    assert text(browser, "model") == "needs a token"
    fill(browser, token="wrong")
    browser.wait("!document.getElementById('error').hidden")
    assert "a token is required" in text(browser, "error")
    fill(browser, token=TOKEN, max_tokens=5)
    browser.wait("document.getElementById('model').textContent.startsWith('tales')")
    click(browser, "write")
    browser.wait(ENDED)
    assert text(browser, "ended") == "at its limit"


def test_texts_end_with_the_server_which_leaves_cleanly(guarded):
    told: list[openai.APIError] = []
    with client(guarded) as here:

        def wait() -> None:
            with pytest.raises(openai.APIError) as ended:
                here.completions.create(model="tales", prompt="b", max_tokens=7000)
            told.append(ended.value)

        # Not drawn: in some thousand tokens <|endoftext|> may be, and then the text is complete.
        stream = here.completions.create(
            model="tales", prompt="a", max_tokens=8000, temperature=0, stream=True
        )
        next(stream)
        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_for(lambda: health(guarded)["waiting"] == 1)
        guarded.process.send_signal(signal.SIGINT)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
        waiting.join(20)
    assert told[0].status_code == 503
    _, err = guarded.process.communicate(timeout=20)
    assert guarded.process.returncode == 0, err
    said = [line for line in err.splitlines() if "this device lacks" not in line]
    assert said[0].endswith(
        f"is served as tales at {guarded.url}/v1; a page to try it: {guarded.url}"
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
