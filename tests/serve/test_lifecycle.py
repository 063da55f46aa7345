"""From the first word to the last: how a server starts, whom it lets in, and how it ends."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import openai
import pytest

from tests.serve.conftest import serving, start, wait_for
from tests.serve.test_batching import health
from tests.serve.test_playground import ENDED, click, fill, show, text
from tests.serve.test_refusals import ask, error
from yxanul.cli.writing import open_writing_model
from yxanul.serve.answers import as_bytes
from yxanul.serve.server import Endpoint, _hosts, _listen, _open

TOKEN = "a-secret"
OPEN = "0.0.0.0"
SLOW = Path(__file__).with_name("slow_server.py")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture(scope="module")
def guarded(run):
    """An open server, which writes one text at a time; the last of its tests ends it."""
    words = (run, "--batch", 1, "--host", OPEN)
    with serving(*words, token=TOKEN, program=(SLOW, 3.0)) as found:
        yield replace(found, url=found.url.replace(OPEN, "127.0.0.1"))


def test_where_few_files_may_be_open_those_beyond_are_refused_and_do_not_hang(run):
    few = start(run, "--batch", 1, open_files="-n 256")
    try:
        host, port = few.url.removeprefix("http://").split(":")
        with contextlib.ExitStack() as held:
            for _ in range(156):
                held.enter_context(socket.create_connection((host, int(port))))
            one = held.enter_context(
                contextlib.closing(HTTPConnection(host, int(port), timeout=10))
            )
            one.request("GET", "/health")
            assert one.getresponse().status == 503
    finally:
        code, err = few.stop()
    assert code == 0, err
    assert "no more than 256 files may be open here: 156 connections are held, not 600" in err


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


def test_an_open_server_has_any_name_with_the_token_and_no_other_page_may_use_it(guarded):
    body, name = {"prompt": "a", "max_tokens": 1}, {"Host": "some.machine:8000"}
    right = {**name, "Authorization": f"Bearer {TOKEN}"}
    assert ask(guarded, body, **right)[0] == 200
    assert ask(guarded, body, Origin="https://some.machine:8000", **right)[0] == 200
    assert error(guarded, body, **name)[0] == 401
    for origin in ("https://evil.example", "https://some.machine"):
        assert error(guarded, body, Origin=origin, **right)[0] == 403


def test_a_body_that_does_not_come_is_not_waited_for(guarded):
    host, port = guarded.url.removeprefix("http://").split(":")
    lines = ("POST /v1/completions HTTP/1.1", f"Host: {host}:{port}", "Content-Length: 99")
    head = "\r\n".join((*lines, f"Authorization: Bearer {TOKEN}", "", ""))
    with socket.create_connection((host, int(port)), timeout=60) as slow:
        slow.sendall(f'{head}{{"prompt": "a'.encode())
        answer = http.client.HTTPResponse(slow)
        answer.begin()
        told = json.loads(answer.read())["error"]["message"]
    assert (answer.status, told) == (408, "the body did not come within 2 s")


def test_when_the_queue_is_full_the_next_one_is_told_to_come_back(guarded):
    with client(guarded) as right:
        # Not drawn: a text that ends early would make room.
        many = right.completions.create(
            model="tales", prompt="a", n=256, max_tokens=7000, temperature=0, stream=True
        )
        wait_for(lambda: health(guarded)["running"] == 1)
        with pytest.raises(openai.RateLimitError, match=r"\d+ texts are waiting") as refused:
            right.completions.create(model="tales", prompt="a", n=256)
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
    url = guarded.url.replace("127.0.0.1", OPEN)
    assert said[0].endswith(f"is served as tales at {url}/v1; a page to try it: {url}")
    assert said[1:] == ["stopped"]


def test_clients_that_stall_are_cut_off_where_the_server_ends(run):
    long = {"prompt": "=" * 200_000, "n": 64, "echo": True, "max_tokens": 0, "stream": True}
    content = json.dumps(long).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with contextlib.ExitStack() as held, serving(run) as found:
        host, port = found.url.removeprefix("http://").split(":")
        unread, half = (
            held.enter_context(socket.create_connection((host, int(port)))) for _ in "ab"
        )
        unread.sendall(head % len(content) + content)
        half.sendall(head % 99 + b'{"prompt": ')
        assert unread.recv(4) == b"HTTP"
        wait_for(lambda: health(found)["running"] == 0)


def test_signals_that_come_together_are_one_wish_and_a_later_one_ends_the_server_at_once(run):
    server = start(run, "--batch", 1, program=(SLOW, 600.0))
    try:
        with client(server) as here:
            stream = here.completions.create(
                model="tales", prompt="a", max_tokens=8000, temperature=0, stream=True
            )
            next(stream)
            # Both are there before it heeds one.
            for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
                server.process.send_signal(number)
            time.sleep(1.2)
            assert server.process.poll() is None  # the text goes on
            wait_for(lambda: has_ended_by(server.process, signal.SIGTERM))
            assert server.process.returncode == 143
    finally:
        server.process.kill()
        server.process.communicate()


def has_ended_by(process: subprocess.Popen[str], number: int) -> bool:
    """Send one signal more: one within a second after the first was heeded is no second one."""
    process.send_signal(number)
    return process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such names")
def test_a_folder_whose_name_is_not_utf_8_is_served_under_one_that_is(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / os.fsdecode(b"t\xffles"))
    _, _, found = _open(lambda: open_writing_model(str(folder)), url="", tell=print)
    assert as_bytes({"model": found.model}) == rb'{"model":"t\\xffles"}'


@pytest.mark.skipif(sys.platform != "linux", reason="others have one address on the loopback")
def test_the_address_that_a_name_leads_to_is_one_of_the_servers_names():
    endpoint = Endpoint("127.1.1", 0)
    with _listen(endpoint) as listener:
        assert _hosts(listener, endpoint) >= {"127.1.1", "127.1.0.1", "localhost"}


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
        pytest.param(("--host", "::", "--port", "0"), "set YXANUL_SERVE_TOKEN", marks=IPV6),
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
