"""Whatever bytes a reader is given, it takes them or refuses them with an error of ours.

A quick look at every target; `make fuzz` looks for longer, guided by what the code does.
"""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.changes import CHANGES
from tests.fuzz.target import REFUSALS
from tests.fuzz.targets import TARGETS

# Whole files that are none.
NO_FILES = (
    *(b"", b"\n", b"\0", b"\xff\xfe", b"null", b"[]", b"{}", b'"x"', b"9" * 5000, b"{}\n\n[]\n"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"- " * 5000, b"(" * 5000, b"> " * 2000 + b"\n"),
    *(b"[" * depth + b"]" * depth + b"\n" for depth in (300, 600, 900, 990)),
    *(b'{"a":' * depth + b"1" + b"}" * depth + b"\n" for depth in (300, 600, 900, 990)),
)
# What once came through as another error, by target; no part of `NO_FILES`.
LONG = b"1" + b"0" * 400
SCORE = b'{"step":%s,"attempt":0,"domain":%s,"bpb":%s,"nats":[],"bytes":[],"tokens":[]}'
ATTEMPT = b'{"event":"attempt","attempt":%s,"parent":"step-%s-a0"}\n'
FOUND = (
    ("exported", b'{"weight_map":{"a":["x"]}}'),
    ("exported", b'{"weight_map":{"a":"%s"}}' % (b"x" * 5000)),
    ("exported", b'{"model_type":"gemma","rope_parameters":[1]}'),
    ("config", b"hidden_size: !!bool x\n"),
    ("config", b"hidden_size: !!float ''\n"),
    ("config", b"hidden_size: !!timestamp x\n"),
    (
        "prepared",
        b'{"id":"","url":null,"rule":"","value":%s,' % LONG
        + b'"limit":0,"detail":null,"text":null}\n',
    ),
    ("snippets", b"```yaml\n!!bool x\n```\n"),
    ("snippets", b"-" * 5999 + b"1\n"),
    ("snippets", b"```yaml\n!!float ''\n```\n"),
    ("snippets", b"```yaml\n!!timestamp x\n```\n"),
    ("rows", b'{"step":1}\n'),
    ("rows", ATTEMPT % (b"0", b"9" * 5000)),
    ("rows", ATTEMPT % (b"[]", b"1") + ATTEMPT % (b"0", b"1")),
    (
        "rows",
        b'{"row":"verdict","stage":"s","attempt":0,"step":8,"verdict":"pass","why":"",'
        b'"bpb_before":null,"bpb_after":null}\n'
        b'{"row":"override","stage":"s","attempt":0,"step":8,"verdict":"pass"}\n',
    ),
    ("rows", b'{"process":Infinity,"seconds":1,"tokens_spent":1}\n'),
    ("scores", SCORE % (b"[]", b'"docs"', b"1")),
    ("scores", SCORE % (b"8", b"[]", b"1")),
    ("scores", SCORE % (b"8", b'"docs"', LONG)),
    (
        "scores",
        b'{"task":[],"version":"","shots":0,"origin":"","prompts_sha256":"",'
        b'"items_sha256":"","ids":[],"measures":{}}',
    ),
    ("ending", b"\xff"),
    ("ending", b'{"code":1}\n'),
    ("ending", b'{"run_folder":[]}\n'),
    ("ending", b'{"run_folder":"%s"}\n' % (b"x" * 5000)),
)


# A page without snippets is a page, and what says nothing of how a run ended is no record of it.
TAKES_ALL = ("snippets", "ending")


def is_refused(name: str, content: bytes) -> bool:
    """Tell whether a reader refuses the bytes, as all do but those that take whatever they get."""
    REFUSALS.clear()
    TARGETS[name].read(content)
    return bool(REFUSALS) or name in TAKES_ALL


@cache
def seeds(name: str) -> list[bytes]:
    return TARGETS[name].seeds()


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_that_are_no_file_of_ours_are_refused(name: str) -> None:
    for content in NO_FILES:
        assert is_refused(name, content), content[:20]


@pytest.mark.parametrize("name", TARGETS)
def test_whole_files_in_any_place_are_read_or_refused(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name].read(seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=25)  # `make fuzz` goes on
@given(data=st.data())
def test_changed_bytes_are_read_or_refused(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(seeds(name)))
    change, random = data.draw(st.sampled_from(CHANGES)), data.draw(st.randoms())
    TARGETS[name].read(data.draw(st.just(change(seed, random)) | st.binary(max_size=200)))


@pytest.mark.parametrize(("name", "content"), FOUND)
def test_what_once_came_through_is_refused(name: str, content: bytes) -> None:
    assert is_refused(name, content)


def test_a_parquet_file_whose_columns_have_no_names_is_refused() -> None:
    pytest.importorskip("pyarrow")
    assert is_refused("texts", seeds("texts")[-1].replace(b"text", b"tex\xf8"))
