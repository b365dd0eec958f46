"""Pages in a real browser: headless Chromium, which may ask nobody for anything, and what it says of a page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
_SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium of this machine; `make browser` installs it."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    assert found, f"none of {', '.join(NAMES)} is on PATH; run: make browser"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=_SWITCHES.split())
        yield chromium
        chromium.close()


@dataclass
class Seen:
    """A page that is open, with everything it complained of and every address it wanted."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def charts(self) -> list[dict[str, Any]]:
        """Of each chart: its title, how many points it was given, and how many shapes are drawn in it."""
        found: list[dict[str, Any]] = self.page.evaluate(
            """() => [...document.querySelectorAll("figure")].map(figure => {
                const chart = figure.querySelector(".chart"), box = chart.getBoundingClientRect();
                return {
                    title: figure.querySelector("figcaption").textContent,
                    said: chart.getAttribute("aria-label"),
                    points: chart.data.map(trace => (trace.z || trace.x).length),
                    shapes: chart.querySelectorAll("path.js-line, path.point, .point path, .heatmaplayer image").length,
                    inside: box.left >= 0 && box.right <= document.documentElement.clientWidth + 1,
                    whole: chart.querySelector(".main-svg").getBoundingClientRect().width <= box.width + 1,
                };
            })"""
        )
        return found

    @property
    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        wider: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return max(wider, 0)


@contextmanager
def opened(chromium: Browser, file: Path, width: int, height: int, **how: Any) -> Iterator[Seen]:
    """`file` in a window of so many pixels, once its charts are drawn."""
    context = chromium.new_context(viewport={"width": width, "height": height}, **how)
    context.set_default_timeout(20_000)
    seen = Seen(context.new_page())

    def listen(message: ConsoleMessage) -> None:
        seen.complaints.append(f"{message.type}: {message.text}")

    seen.page.on("console", listen)
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("dialog", lambda dialog: seen.complaints.append(f"dialog: {dialog.message}"))
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    try:
        seen.page.goto(file.as_uri())
        seen.page.wait_for_selector("html[data-drawn]")
        yield seen
    finally:
        context.close()
