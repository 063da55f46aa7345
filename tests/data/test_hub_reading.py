"""A data set of the hub is read whole and once, whatever breaks on the way; what is refused is
refused at once. The real libraries read from a stand-in on the loopback address."""

import random
from collections.abc import Iterator

import pytest

from tests.data.hub_reader import Reader, reading_from
from tests.data.hub_standin import Fault, HubSet, StandIn, card, json_lines, parquet, running

# Three files, each of several range requests' worth of rows in three row groups.
WORDS = [f"Text {n}: " + " ".join(f"word{n}x{i}" for i in range(n % 30 + 1)) for n in range(330)]
ROWS = [{"text": text, "url": f"https://example.org/{n}"} for n, text in enumerate(WORDS)]
PARTS = [ROWS[:120], ROWS[120:250], ROWS[250:]]
PARQUET = {f"data/train-{n}.parquet": parquet(part) for n, part in enumerate(PARTS)}
LINES = {f"data/train-{n}.jsonl": json_lines(part) for n, part in enumerate(PARTS)}
FORMATS = ["some/parquet", "some/lines"]


def named(files: dict[str, bytes]) -> dict[str, bytes]:
    return {"README.md": card(default="data/train-*"), **files}


@pytest.fixture(scope="module")
def hub() -> Iterator[StandIn]:
    sets = {"some/parquet": HubSet(named(PARQUET)), "some/lines": HubSet(named(LINES))}
    sets["some/private"] = HubSet(named(PARQUET), token="hf_secret")
    with running(StandIn(sets)) as standin:
        yield standin


@pytest.fixture(scope="module")
def reader(hub: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with reading_from(hub, tmp_path_factory.mktemp("home")) as program:
        yield program


@pytest.mark.parametrize("name", FORMATS)
def test_every_row_is_read_in_order_with_its_place_and_address(hub, reader, name: str) -> None:
    hub.break_with()
    found = reader.read(name)
    assert found["texts"] == WORDS
    assert found["ids"] == [f"{name}/default/train/{n}" for n in range(len(WORDS))]
    assert found["urls"] == [row["url"] for row in ROWS]
    assert found["version"] == f"{name}@{hub.sets[name].sha}"
    assert (found["dropped"], found["news"]) == ({}, [])
    assert not found["loads_torch"]


# What breaks before a file is asked for is the same for both formats.
BREAKS = [
    *(
        (name, fault)
        for name in FORMATS
        for fault in (
            Fault("/cdn/", "cut"),
            Fault("/cdn/", "cut", skip=2, times=3),
            Fault("train-1", "short", times=2),
            Fault("train-2", "short"),
            Fault("/cdn/", 503, skip=1, times=2),
            Fault("/resolve/", 500, skip=4),
            Fault("train-1", "silent"),
        )
    ),
    (FORMATS[0], Fault("/tree/", 429, headers={"Retry-After": "0"})),
    (FORMATS[1], Fault("/api/", 408, times=2)),
    (FORMATS[0], Fault("", 425)),
]


@pytest.mark.parametrize(
    ("name", "fault"),
    BREAKS,
    ids=[f"{f.kind}-{f.where.strip('/')}-{f.skip}-{f.times}-{name}" for name, f in BREAKS],
)
def test_what_breaks_is_tried_again_and_no_row_is_lost_or_doubled(
    hub, reader, name: str, fault: Fault
) -> None:
    hub.sets[name].renew()
    hub.break_with(Fault(fault.where, fault.kind, fault.times, fault.skip, fault.headers, 1.5))
    is_silent = fault.kind == "silent"
    found = reader.read(name, patience={"silence_s": 1.0} if is_silent else {})
    assert found["texts"] == WORDS
    # A busy machine may be silent for a second as well.
    assert len(found["news"]) == fault.times or (is_silent and found["news"])
    assert all(line.startswith(f"{name}: the hub ") for line in found["news"])
    assert "try 2 of" in found["news"][0]
    assert hub.faults[0].times == 0


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("kind", ["cut", "short", "zeros"])
def test_a_file_of_many_requests_may_break_at_each_of_them(hub, reader, ending, kind) -> None:
    # Five kilobytes of chance a row: more than the libraries fetch at once.
    draw = random.Random(7)
    texts = [f"{n} {draw.randbytes(2500).hex()}" for n in range(2400)]
    rows = [{"text": text} for text in texts]
    large = parquet(rows, row_group=400) if ending == "parquet" else json_lines(rows)
    hub.sets["some/large"] = HubSet(named({f"data/train-0.{ending}": large}))
    hub.break_with()
    assert reader.read("some/large")["texts"] == texts
    bodies = len(hub.asked("/cdn/"))
    assert bodies >= 2
    for place in range(bodies):
        hub.break_with(Fault("/cdn/", kind, skip=place))
        found = reader.read("some/large")
        assert found["texts"] == texts, place
        assert hub.faults[0].times == 0


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "stop_after", [1, pytest.param(119, marks=pytest.mark.slow), 120, 200, 330]
)
def test_a_reading_goes_on_at_the_next_row_and_leaves_finished_files_alone(
    hub, reader, name: str, stop_after: int
) -> None:
    hub.break_with()
    found = reader.read(name, stop_after=stop_after)
    assert found["texts"] == WORDS
    assert found["ids"] == [f"{name}/default/train/{n}" for n in range(len(WORDS))]
    # The first file is asked for once for the columns, and for its rows only while it is read.
    once, again = (len(hub.asked(f"/cdn/{hub.sets[name].sha}/data/train-{n}")) for n in (0, 1))
    if stop_after > 121:
        assert once <= 3
        assert again >= 1


@pytest.mark.parametrize("stop_after", [130, 140])
def test_a_limit_of_documents_holds_across_a_mark(hub, reader, stop_after: int) -> None:
    hub.break_with()
    found = reader.read("some/parquet", stop_after=stop_after, max_documents=140)
    assert found["texts"] == WORDS[:140]
    assert not hub.asked("train-2")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault("", 401, 99, headers={"X-Error-Code": "RepoNotFound"}), 401),
        (Fault("", 403, 99, headers={"X-Error-Code": "GatedRepo"}), 403),
        (Fault("", 403, 99), 403),
        (Fault("", 404, 99, headers={"X-Error-Code": "RepoNotFound"}), 404),
        (Fault("", 404, 99, headers={"X-Error-Code": "RevisionNotFound"}), 404),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "fault",
)
def test_a_refusal_is_told_at_once_and_asked_once(hub, reader, fault: Fault, status: int) -> None:
    hub.break_with(fault)
    found = reader.read("some/parquet")
    assert found["exit_code"] == 30
    assert f"HTTP {status}" in found["error"]
    for part in ("some/parquet", "--data embedded", "--data DIR", "HF_TOKEN"):
        assert part in found["error"]
    assert len(hub.requests) == 1
    assert found["news"] == []


def test_a_refusal_in_the_middle_of_a_set_is_not_repeated(hub, reader) -> None:
    hub.break_with(Fault("train-1", 401, 99))
    found = reader.read("some/lines")
    assert (found["exit_code"], found["news"]) == (30, [])
    assert len(hub.asked("train-1")) == 1
    assert found["texts"] == WORDS[: len(found["texts"])]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_outage_that_lasts_ends_with_exit_code_11(hub, reader, status: int) -> None:
    hub.break_with(Fault("", status, 99))
    found = reader.read("some/parquet")
    assert found["exit_code"] == 11
    assert f"the hub answered {status}, 4 times" in found["error"]
    assert "goes on where it stopped" in found["error"]
    assert (len(hub.requests), len(found["news"])) == (4, 3)


@pytest.mark.parametrize("where", ["/api/", "/tree/", "/resolve/", "/cdn/", "train-1"])
def test_a_stop_while_the_hub_is_waited_for_is_a_stop_and_no_outage(hub, reader, where) -> None:
    fresh = f"stopped/{where.strip('/')}"  # the libraries remember what they were told of a set
    hub.sets[fresh] = HubSet(named(PARQUET))
    hub.break_with(Fault(where, 503, times=3))
    found = reader.read(fresh, stops=True)
    assert (found["exit_code"], found["error"]) == (10, "stopped by SIGTERM")
    assert len(found["news"]) == 1


def test_a_folder_of_this_machine_named_like_a_set_is_not_read_for_it(hub, reader) -> None:
    """The program works in the project's folder, where tests/data is one."""
    hub.break_with()
    hub.sets["tests/data"] = HubSet(named(PARQUET))
    assert reader.read("tests/data")["texts"] == WORDS


def test_tries_are_counted_anew_after_each_success(hub, reader) -> None:
    # Three failures each, of four tries: a set that breaks everywhere is read nevertheless.
    places = ["/api/", "/tree/", "train-0", "train-1", "train-2"]
    hub.sets["some/lines"].renew()
    hub.break_with(*(Fault(where, 502, 3) for where in places))
    found = reader.read("some/lines")
    assert found["texts"] == WORDS
    assert len(found["news"]) == 15


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.3, pytest.param(0.7, marks=pytest.mark.slow), 0.99])
def test_half_a_file_on_the_hub_is_no_whole_file(hub, reader, name: str, share: float) -> None:
    ending = "parquet" if "parquet" in name else "jsonl"
    path, whole = f"data/train-1.{ending}", hub.sets[name].files[f"data/train-1.{ending}"]
    half = whole[: int(share * len(whole))]
    hub.sets["some/half"] = HubSet({**hub.sets[name].files, path: half}, claims={path: len(whole)})
    hub.break_with()
    found = reader.read("some/half")
    assert (found["exit_code"], found["kind"]) == (11, "HubUnreachableError")
    assert "some/half" in found["error"]
    assert found["texts"] == WORDS[: len(found["texts"])]
    assert 1 <= len(found["news"]) <= 20


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut_and_says_so_is_damaged(hub, reader, name: str) -> None:
    ending = "parquet" if "parquet" in name else "jsonl"
    whole = hub.sets[name].files[f"data/train-1.{ending}"]
    files = {**hub.sets[name].files, f"data/train-1.{ending}": whole[: len(whole) // 2]}
    hub.sets["some/cut"] = HubSet(files)
    hub.break_with()
    found = reader.read("some/cut")
    assert found["exit_code"] == 11
    assert "file 2 of 3 damaged or not to its end" in found["error"]


def test_null_and_empty_texts_are_counted_and_do_not_stop_the_reading(hub, reader) -> None:
    rows = [{"text": "long enough to be kept"}, {"text": None}, {"text": " "}, {"text": "a"}]
    hub.sets["some/holes"] = HubSet(named({"data/train-0.parquet": parquet(rows * 3)}))
    hub.break_with()
    found = reader.read("some/holes", min_tokens=3, max_documents=99)
    assert found["dropped"] == {"text is null": 3, "empty": 3, "too_short": 3}
    assert [one.rpartition("/")[2] for one in found["ids"]] == ["0", "4", "8"]


def test_a_missing_column_names_the_columns_there_are(hub, reader) -> None:
    hub.break_with()
    found = reader.read("some/parquet", text_template="{body}")
    assert (found["kind"], found["exit_code"]) == ("ConfigError", 30)
    assert "no column body, only text, url" in found["error"]


def test_a_template_that_fits_no_row_is_refused_before_the_whole_set_is_read(hub, reader) -> None:
    hub.break_with()
    found = reader.read("some/parquet", text_template="{text[0][content]}")
    assert (found["kind"], found["exit_code"]) == ("ConfigError", 30)
    assert "fits no row" in found["error"]


def test_a_file_of_other_columns_is_a_damaged_set(hub, reader) -> None:
    files = {"data/train-0.parquet": parquet(ROWS[:9]), "data/train-1.parquet": parquet([{"b": 1}])}
    hub.sets["some/mixed"] = HubSet(named(files))
    hub.break_with()
    found = reader.read("some/mixed")
    assert (found["exit_code"], found["news"]) == (31, [])
    assert "file 2 of 2 does not have the columns of the first" in found["error"]
    assert len(found["texts"]) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hub_config": "absent"}, "hub_config 'absent'"),
        ({"hub_split": "absent"}, "hub_split 'absent'"),
        ({"hub_revision": "absent"}, "does not exist"),
    ],
)
def test_a_part_that_the_set_lacks_is_the_users_to_correct(
    hub, reader, options: dict, message: str
) -> None:
    hub.break_with()
    found = reader.read("some/parquet", **options)
    assert found["exit_code"] == 30
    assert message in found["error"]
    assert found["news"] == []


def test_a_revision_that_was_begun_is_gone_on_with_and_the_newer_one_told(hub, reader) -> None:
    hub.break_with()
    hub.sets["some/moving"] = HubSet(named(PARQUET))
    begun = f"some/moving@{hub.sets['some/moving'].sha}"
    assert reader.read("some/moving", begun=begun)["news"] == []
    found = reader.read("some/parquet", begun="some/parquet@" + "0" * 40)
    assert found["version"] == "some/parquet@" + "0" * 40
    assert f"the newest is some/parquet@{hub.sets['some/parquet'].sha}" in found["news"][0]


def test_a_private_set_opens_with_its_token_only(hub, reader, tmp_path) -> None:
    hub.break_with()
    closed = reader.read("some/private", private=True)
    assert "is private and HF_TOKEN is not set" in closed["error"]
    assert hub.requests == []
    assert "HTTP 401" in reader.read("some/private")["error"]
    with reading_from(hub, tmp_path / "home", HF_TOKEN="hf_secret") as trusted:
        assert trusted.read("some/private", private=True)["texts"] == WORDS


def test_a_hub_that_is_not_there_is_given_up_in_seconds(hub, tmp_path) -> None:
    # The discard port: nothing listens there, so it refuses at once.
    closed = StandIn({})
    closed.address = "http://127.0.0.1:9"
    with reading_from(closed, tmp_path / "home") as lonely:
        found = lonely.read("some/set")
        assert (found["exit_code"], len(found["news"])) == (11, 1)
        assert "does not answer (ConnectError), 2 times" in found["error"]
        for part in ("some/set", "--data embedded", "--data DIR", "HF_TOKEN"):
            assert part in found["error"]
        named_wrongly = lonely.read("some//set")
        assert (named_wrongly["exit_code"], named_wrongly["news"]) == (30, [])
    with reading_from(closed, tmp_path / "offline", HF_HUB_OFFLINE="1") as offline:
        found = offline.read("some/set")
        assert found["exit_code"] == 30
        for part in ("unset HF_HUB_OFFLINE", "--data embedded", "--data DIR", "HF_TOKEN"):
            assert part in found["error"]
