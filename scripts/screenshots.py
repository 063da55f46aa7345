"""Takes the pictures of docs/: the top of a page, desktop and phone, light and dark.

Usage: python scripts/screenshots.py PAGE.html OUTDIR

Tells the page's size and how long it took to open: from asking for it to all of it being drawn.
"""

import statistics
import sys
import time
from pathlib import Path

from chromium import Page, find_chromium, open_page

# Name, width and height in CSS pixels, pixels per CSS pixel.
WINDOWS = (("desktop", 1280, 1600, 1.0), ("phone", 390, 1690, 1.5))


def main(page: Path, out: Path) -> None:
    """Take the pictures and print what was seen."""
    chromium = find_chromium()
    if chromium is None:
        sys.exit("no Chromium is installed; install the package chromium")
    out.mkdir(parents=True, exist_ok=True)
    seconds = []
    with open_page(chromium) as browser:
        for window in WINDOWS:
            for scheme in ("light", "dark"):
                seconds.append(_open(browser, page, window=window, dark=scheme == "dark"))
                picture = out / f"{page.stem}-{window[0]}-{scheme}.png"
                picture.write_bytes(browser.screenshot())
                print(f"{picture}: {picture.stat().st_size:,} bytes")
    print(
        f"{page}: {page.stat().st_size / 1e6:.2f} MB, opened in {statistics.median(seconds):.2f} s "
        f"(median of {len(seconds)}, at most {max(seconds):.2f})"
    )


def _open(browser: Page, page: Path, *, window: tuple[str, int, int, float], dark: bool) -> float:
    _, width, height, scale = window
    begin = time.monotonic()
    browser.show(page.resolve().as_uri(), width=width, height=height, dark=dark, scale=scale)
    return time.monotonic() - begin


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    shown = Path(sys.argv[1])
    if not shown.is_file():
        sys.exit(f"{shown} is not there; write it with: yxanul report RUN")
    main(shown, Path(sys.argv[2]))
