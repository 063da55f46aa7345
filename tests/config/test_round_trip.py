"""load(dump(config)) == config, and the difference of two configs is seen."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.strategies import STRANGE, runs
from yxanul.config.load import diff_configs, dump_config, parse_config
from yxanul.config.yamltext import dump, parse_document


@settings(max_examples=30)
@given(runs())
def test_a_dumped_config_loads_back_equal_and_differs_nowhere(config):
    back = parse_config(dump_config(config))
    assert back == config
    assert diff_configs(config, back) == []


plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(STRANGE),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc_- ", min_size=1), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc_: #-'", min_size=1), plain, min_size=1))
def test_yaml_text_gives_back_any_plain_values(values):
    back = parse_document(dump(values), "x").data
    assert back == values
    assert repr(back) == repr(values)  # 1 is not 1.0 and not true


@pytest.mark.parametrize("mark", ["\x85", "\u2028", "\u2029"])
def test_line_breaks_of_unicode_come_back(mark):
    values = {"a": f"x{mark}y", "b": f"{mark} z"}
    assert parse_document(dump(values), "x").data == values


@settings(max_examples=20)
@given(runs(), st.integers(0, 2**62))
def test_a_difference_is_named_by_its_set_path(config, seed):
    changed = config.model_copy(
        update={"optimization": config.optimization.model_copy(update={"seed": seed})}
    )
    expected = [("seed", config.optimization.seed, seed)]
    assert diff_configs(config, changed) == (expected if seed != config.optimization.seed else [])


@settings(max_examples=20)
@given(runs().filter(lambda config: len(config.stages) > 1))
def test_a_stage_of_one_config_only_is_a_difference(config):
    shorter = config.model_copy(update={"stages": config.stages[:-1]})
    gone = config.stages[-1].name
    differences = diff_configs(config, shorter)
    assert {path.split(".")[0] for path, _, _ in differences} == {gone}
    assert all(new is None for _, _, new in differences)
