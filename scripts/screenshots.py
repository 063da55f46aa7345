"""Takes the pictures of docs/: the top of RUN/report.html, desktop and phone, light and dark.

Usage: python scripts/screenshots.py RUN OUTDIR
"""

import sys
from pathlib import Path

from chromium import find_chromium, open_page

# Name, width and height in CSS pixels, pixels per CSS pixel.
WINDOWS = (("desktop", 1280, 1600, 1.0), ("phone", 390, 1690, 1.5))


def take_pictures(report: Path, out: Path) -> list[Path]:
    """Write report-<window>-<scheme>.png into `out`; return their paths."""
    chromium = find_chromium()
    if chromium is None:
        sys.exit("no Chromium is installed; install the package chromium")
    out.mkdir(parents=True, exist_ok=True)
    pictures = []
    with open_page(chromium) as page:
        for name, width, height, scale in WINDOWS:
            for scheme in ("light", "dark"):
                dark = scheme == "dark"
                page.show(report.as_uri(), width=width, height=height, dark=dark, scale=scale)
                pictures.append(out / f"report-{name}-{scheme}.png")
                pictures[-1].write_bytes(page.screenshot())
    return pictures


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    written = (Path(sys.argv[1]) / "report.html").resolve()
    if not written.is_file():
        sys.exit(f"{written} is not there; write it with: yxanul report {sys.argv[1]}")
    for picture in take_pictures(written, Path(sys.argv[2])):
        sys.stdout.write(f"{picture}: {picture.stat().st_size:,} bytes\n")
