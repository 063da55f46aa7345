"""Many at once: each text is what it would be alone, and nobody's leaving stops the others."""

import json
import resource
import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serve.conftest import wait_for
from tests.train.world import tale

WORDS = [tale(number).split()[number % 9] for number in range(19)]


def options(number: int) -> dict:
    """A request of its own for each number: long and short, greedy and drawn.

    No top_p: it sorts, and this model's tokens are so nearly alike that rounding changes the order.
    """
    prompt = " ".join(WORDS[(number + i) % len(WORDS)] for i in range(1 + 17 * number % 61))
    return {
        "prompt": prompt,
        "max_tokens": 1 + 13 * number % 23,
        "temperature": (0, 0.7, 1.0)[number % 3],
        "top_k": (50257, 20)[number % 2],
        "seed": number,
    }


def create(client, *, top_k: int, **asked):
    return client.completions.create(model="tales", extra_body={"top_k": top_k}, **asked)


def by_itself(alone, asked: dict) -> str:
    rest = {name: asked[name] for name in ("temperature", "top_k", "seed")}
    return alone(asked["prompt"], max_new_tokens=asked["max_tokens"], **rest).text


def health(server) -> dict:
    with urllib.request.urlopen(f"{server.url}/health", timeout=30) as answer:
        return json.load(answer)


def test_32_requests_at_once_are_each_what_generate_writes(client, alone):
    asked = [options(number) for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda one: create(client, **one), asked))
    assert [one.choices[0].text for one in found] == [by_itself(alone, one) for one in asked]


def test_concurrent_streams_are_not_mixed_up(client, alone):
    def streamed(one: dict) -> str:
        chunks = create(client, stream=True, **one)
        return "".join(chunk.choices[0].text for chunk in chunks)

    asked = [options(number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(streamed, asked)) == [by_itself(alone, one) for one in asked]


def test_a_longer_prompt_joins_while_a_text_is_written_and_both_are_their_own(client, alone):
    stream = client.completions.create(
        model="tales", prompt="The", max_tokens=300, temperature=0, stream=True
    )
    pieces = [next(stream).choices[0].text]
    longer = " ".join(WORDS * 40)
    found = client.completions.create(model="tales", prompt=longer, max_tokens=9, temperature=0)
    assert found.choices[0].text == alone(longer, temperature=0, max_new_tokens=9).text
    pieces += [chunk.choices[0].text for chunk in stream]
    assert "".join(pieces) == alone("The", temperature=0, max_new_tokens=300).text


def hang_up(server, body: dict) -> None:
    """Ask, wait until it is being written, and leave without a word."""
    content = json.dumps(body).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
            b"\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)
        )
        wait_for(lambda: health(server)["running"] == 8)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_gives_its_rows_back(server, client, alone, stream):
    # To its end this would take minutes.
    hang_up(server, {"prompt": "The", "max_tokens": 8000, "n": 12, "stream": stream})
    wait_for(lambda: health(server) == {**health(server), "running": 0, "waiting": 0})
    found = client.completions.create(model="tales", prompt="A", max_tokens=5, temperature=0)
    assert found.choices[0].text == alone("A", temperature=0, max_new_tokens=5).text


def test_a_stream_that_is_closed_early_gives_its_row_back(server, client):
    stream = client.completions.create(model="tales", prompt="The", max_tokens=8000, stream=True)
    next(stream)
    stream.close()
    wait_for(lambda: health(server)["running"] == 0)


def test_a_client_that_sends_and_reads_nothing_holds_nobody_up(server, client):
    host, port = server.url.removeprefix("http://").split(":")
    body = {"prompt": "The", "max_tokens": 8000, "temperature": 0, "stream": True, "logprobs": 5}
    content = json.dumps(body)
    slow = [socket.create_connection((host, int(port))) for _ in range(6)]
    try:
        for one in slow[:3]:
            one.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-")
        for one in slow[3:]:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            one.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                b"%d\r\n\r\n%s" % (len(content), content.encode())
            )
        wait_for(lambda: health(server)["running"] == 3)
        done = threading.Event()

        def ask() -> None:
            client.completions.create(model="tales", prompt="The", max_tokens=20)
            done.set()

        threading.Thread(target=ask).start()
        assert done.wait(20)
    finally:
        for one in slow:
            one.close()
    wait_for(lambda: health(server)["running"] == 0)


@pytest.mark.slow
def test_a_thousand_requests_leave_the_memory_flat(server, client, alone):
    def rss() -> int:
        pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def ask(number: int) -> str:
        return create(client, **options(number % 48)).choices[0].text

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(200)))
        before = rss()
        found = list(pool.map(ask, range(1000)))
    grown = rss() - before
    assert grown < 16 << 20, f"{grown / 2**20:.1f} MiB more after 1,000 requests"
    assert found[:48] == found[48:96] == [by_itself(alone, options(n)) for n in range(48)]
