"""The page in a real browser: quiet, offline, drawn, and readable on a phone and in the dark."""

import pytest

from scripts.chromium import find_chromium, open_page

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")

DESKTOP, PHONE = (1280, 900), (390, 844)
VIEWS = [(DESKTOP, False), (DESKTOP, True), (PHONE, False), (PHONE, True)]
NAMES = ["desktop light", "desktop dark", "phone light", "phone dark"]
OFTEN = ("desktop light", "phone dark")  # each window and each scheme once
EACH_VIEW = [
    pytest.param(view, id=name, marks=[] if name in OFTEN else [pytest.mark.slow])
    for view, name in zip(VIEWS, NAMES, strict=True)
]

# What reaches beyond the window and does not lie in a box that scrolls by itself.
OUTSIDE = """[...document.querySelectorAll("body *")].filter((element) => {
  if (element.getBoundingClientRect().right <= innerWidth + 0.5) return false;
  for (let box = element; box; box = box.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(box).overflowX)) return false;
  return getComputedStyle(element).position !== "absolute";
}).map((element) => element.outerHTML.slice(0, 80))"""

EMPTY = "[...document.querySelectorAll('.plot')].filter((p) => !p.querySelector('.js-line')).length"
GROUND = "getComputedStyle(document.body).backgroundColor"
FIRST_CURVE = "getComputedStyle(document.querySelector('#loss .js-line')).stroke"
NOISE = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
NOISE |= {"Page.javascriptDialogOpening"}


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all tests of this file."""
    with open_page(find_chromium()) as page:
        yield page


def show(browser, root, view):
    """Open a report in a window of its own size and scheme; return the events since."""
    (width, height), dark = view
    before = len(browser.events)
    browser.show((root / "report.html").as_uri(), width=width, height=height, dark=dark)
    return browser.events[before:]


@pytest.fixture(params=["run", "skilled"])
def any_run(request):
    """A run without skills, and one with all that there is to show."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("view", EACH_VIEW)
def test_the_page_is_quiet_and_offline_fits_its_window_and_is_drawn(browser, any_run, view):
    events = show(browser, any_run, view)
    assert [e for e in events if e["method"] in NOISE] == []
    asked = [e["params"]["request"]["url"] for e in events
             if e["method"] == "Network.requestWillBeSent"]  # fmt: skip
    assert asked == [(any_run / "report.html").as_uri()]
    assert browser.evaluate("performance.getEntriesByType('resource').length") == 0

    browser.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    width = view[0][0]
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate(OUTSIDE) == []
    for name in ("loss", "bpb", "speed"):
        assert browser.evaluate(f"document.querySelectorAll('#{name} .js-line').length") >= 5
    assert browser.evaluate(EMPTY) == 0


def test_charts_and_page_follow_the_scheme_without_being_loaded_again(browser, run):
    show(browser, run, (DESKTOP, False))
    light = browser.evaluate(GROUND), browser.evaluate(FIRST_CURVE)
    browser.dark(True)
    browser.settle()
    dark = browser.evaluate(GROUND), browser.evaluate(FIRST_CURVE)
    assert light == ("rgb(250, 250, 248)", "rgb(0, 114, 178)")
    assert dark[0] == "rgb(17, 20, 24)"
    assert dark[1] not in (light[1], "rgb(68, 68, 68)")  # the last is plotly's own


def test_a_printed_page_is_light_even_in_the_dark(browser, run):
    show(browser, run, (DESKTOP, True))
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate(FIRST_CURVE) == "rgb(0, 114, 178)"
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert browser.evaluate(FIRST_CURVE) != "rgb(0, 114, 178)"


def test_a_tap_on_a_number_shows_where_it_stands(browser, run):
    show(browser, run, (PHONE, False))
    shown = "(o => o.hidden || o.textContent)(document.getElementById('origin'))"
    assert browser.evaluate(shown) is True
    browser.evaluate("document.querySelector('.matrix td .n').click()")
    assert "gates.jsonl, line" in browser.evaluate(shown)
    assert "bpb_before / wikipedia" in browser.evaluate(shown)
    browser.evaluate("document.querySelector('.expected .cited').click()")
    assert "promised as" in browser.evaluate(shown)
    browser.evaluate("document.querySelector('h2').click()")
    assert browser.evaluate(shown) is True


KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowUp": 38}
KEYS |= {"ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}
FOCUSED = "document.activeElement.className.split(' ')[0]"
ORIGIN = "(o => o.hidden ? '' : o.textContent)(document.getElementById('origin'))"


def press(browser, *keys):
    """Press keys one after the other, as a keyboard does."""
    for key in keys:
        about = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        about |= {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, **about)


def test_the_keyboard_reaches_every_origin_of_a_section(browser, run):
    show(browser, run, (DESKTOP, False))
    browser.evaluate("document.querySelector('#summary .walk').focus()")
    assert browser.evaluate("document.activeElement.getBoundingClientRect().width") > 100
    name = browser.evaluate("document.activeElement.getAttribute('aria-label')")
    assert name.startswith(browser.evaluate("document.activeElement.textContent"))
    press(browser, "Enter")
    shown = "[...document.querySelectorAll('#summary .n')].filter(n => n.getClientRects().length)"
    titles = browser.evaluate(f"{shown}.map((n) => n.title)")
    assert len(titles) > 30
    for title in titles:
        assert browser.evaluate(FOCUSED) == "n"
        assert browser.evaluate(ORIGIN).endswith(title)
        assert browser.evaluate("document.activeElement.getAttribute('aria-describedby')")
        press(browser, "ArrowRight")
    assert browser.evaluate(ORIGIN).endswith(titles[-1])  # there is no number after the last
    press(browser, "Home", "ArrowDown", "ArrowUp", "End", "ArrowLeft")
    assert browser.evaluate(ORIGIN).endswith(titles[-2])
    press(browser, "Escape")
    assert browser.evaluate(FOCUSED) == "walk"
    assert browser.evaluate(ORIGIN) == ""


def test_tab_stops_once_in_a_section_and_not_at_its_numbers(browser, any_run):
    show(browser, any_run, (DESKTOP, False))
    stops = "document.querySelectorAll('a, button, summary, [tabindex=\"0\"]').length"
    numbers = "document.querySelectorAll('.n').length"
    assert browser.evaluate(stops) < 0.1 * browser.evaluate(numbers)
    assert browser.evaluate("document.querySelectorAll('.walk').length") >= 15
    browser.evaluate("document.querySelector('#gates .walk').focus()")
    press(browser, "Enter", "Tab")
    inside = "document.activeElement.matches('.n, .cited')"
    assert browser.evaluate(inside) is False
    assert browser.evaluate(ORIGIN) == ""


def test_the_figures_of_every_chart_are_there_without_a_script(browser, any_run):
    show(browser, any_run, (PHONE, False))
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call("Page.navigate", url=(any_run / "report.html").as_uri())
        browser.wait("document.readyState === 'complete'")
        assert browser.evaluate("document.querySelectorAll('.js-line').length") == 0
        browser.evaluate("document.querySelectorAll('.figures').forEach((d) => (d.open = true))")
        seen = browser.evaluate(
            "[...document.querySelectorAll('.plot')].map((p) => document.getElementById("
            "p.getAttribute('aria-details')).querySelectorAll('.points .n').length)"
        )
        assert len(seen) >= 3
        assert min(seen) >= 2
        assert "tells without it what they draw" in browser.evaluate("document.body.innerText")
        assert browser.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_hostile_names_run_nothing_and_load_nothing(browser, hostile):
    events = show(browser, hostile, (PHONE, False))
    assert [e for e in events if e["method"] in NOISE] == []
    figures = browser.evaluate("document.querySelectorAll('[data-figure]').length")
    assert browser.evaluate("document.scripts.length") == figures + 2
    assert browser.evaluate("document.images.length") == 0
    assert browser.evaluate("document.querySelectorAll('#bpb a').length") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    assert browser.evaluate(OUTSIDE) == []


def test_a_script_that_got_into_the_page_would_not_run(browser, hostile, tmp_path):
    """The page's policy is the second wall behind the escaping."""
    page = (hostile / "report.html").read_text(encoding="utf-8")
    (tmp_path / "report.html").write_text(
        page.replace("<main>", "<main><script>window.broken = true</script>")
    )
    events = show(browser, tmp_path, (DESKTOP, False))
    assert browser.evaluate("window.broken === undefined")
    assert any(event["method"] == "Log.entryAdded" for event in events)
