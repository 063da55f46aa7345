"""The playground in a real browser: it writes, stops, explains itself, and asks nobody else."""

import pytest

from tests.serve.conftest import wait_for
from tests.serve.test_batching import health

DESKTOP, PHONE = (1280, 900), (390, 844)
NOISE = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
UNNAMED = """[...document.querySelectorAll("input, textarea, button")].filter(
  (one) => !one.labels?.length && !one.textContent.trim()).map((one) => one.id)"""
SMALL = """[...document.querySelectorAll("button, input[type=text], input[type=number]")].filter(
  (one) => one.offsetParent && one.getBoundingClientRect().height < 40).map((one) => one.id)"""
ENDED = "document.getElementById('ended').textContent !== '–'"


def show(browser, server, view=DESKTOP, *, dark=False) -> None:
    width, height = view
    browser.events.clear()
    browser.show(server.url, width=width, height=height, dark=dark)
    browser.wait("document.getElementById('model').textContent !== 'connecting…'")


def fill(browser, **values: object) -> None:
    for name, value in values.items():
        browser.evaluate(
            f"(one => {{ one.value = {str(value)!r};"
            f" one.dispatchEvent(new Event('input')); one.dispatchEvent(new Event('change'));"
            f" }})(document.getElementById('{name}'))"
        )


def click(browser, name: str) -> None:
    browser.evaluate(f"document.getElementById('{name}').click()")


def text(browser, name: str) -> str:
    return browser.evaluate(f"document.getElementById('{name}').textContent")


def test_it_writes_what_generate_writes_and_tells_how_fast(browser, server, alone):
    show(browser, server)
    assert text(browser, "model") == "tales, 8,191 tokens"
    fill(browser, prompt="The miller", max_tokens=30, temperature=0)
    click(browser, "write")
    browser.wait(ENDED)
    wanted = alone("The miller", temperature=0, max_new_tokens=30).text
    assert text(browser, "text") == "The miller" + wanted
    assert (text(browser, "tokens"), text(browser, "ended")) == ("30", "at its limit")
    assert float(text(browser, "speed").replace(",", "")) > 0
    fill(browser, prompt="Something else")
    click(browser, "onward")
    assert browser.evaluate("document.getElementById('prompt').value") == "The miller" + wanted
    assert [event for event in browser.events if event["method"] in NOISE] == []
    asked = {
        event["params"]["request"]["url"].removeprefix(server.url)
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {one for one in asked if not one.startswith("data:")} == {
        "/",
        "/health",
        "/v1/models",
        "/v1/completions",
    }


def test_the_stop_button_gives_the_row_back(browser, server):
    show(browser, server)
    fill(browser, max_tokens=8000)
    click(browser, "write")
    browser.wait("document.getElementById('text').textContent.length > 60")
    assert health(server)["running"] == 1
    click(browser, "stop")
    browser.wait(ENDED)
    assert text(browser, "ended") == "stopped"
    wait_for(lambda: health(server)["running"] == 0)


def test_probabilities_are_shown_and_a_token_tells_what_else_was_likely(browser, server, alone):
    show(browser, server)
    fill(browser, prompt="A 🙂", max_tokens=40, temperature=0)
    click(browser, "shades")
    click(browser, "write")
    browser.wait(ENDED)
    wanted = alone("A 🙂", temperature=0, max_new_tokens=40).text
    assert text(browser, "text") == "A 🙂" + wanted
    tokens = "document.querySelectorAll('#text .token')"
    assert browser.evaluate(f"{tokens}.length") == 40
    browser.evaluate(f"{tokens}[3].click()")
    assert browser.evaluate("document.querySelectorAll('#likely li').length") == 5
    assert browser.evaluate("document.querySelectorAll('#likely li.taken').length") == 1


def test_a_refusal_is_told_on_the_page(browser, server):
    show(browser, server)
    fill(browser, prompt=" a" * 9000)
    click(browser, "write")
    browser.wait(ENDED)
    assert "8,192 positions" in text(browser, "error")


@pytest.mark.parametrize("view", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_its_window_and_every_control_has_a_name(browser, server, view, dark):
    show(browser, server, view, dark=dark)
    fill(browser, prompt="The miller", max_tokens=40)
    click(browser, "write")
    browser.wait(ENDED)
    assert browser.evaluate("document.documentElement.scrollWidth") == view[0]
    assert browser.evaluate(UNNAMED) == []
    assert browser.evaluate(SMALL) == []
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(17, 20, 24)" if dark else "rgb(250, 250, 248)")
