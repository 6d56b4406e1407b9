"""A headless Chromium, as a person's browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Milliseconds for whatever is waited for.
PATIENCE = 60_000


def program() -> str:
    """Chromium's path; without one the test is skipped, or fails where nothing may be missing."""
    found = next((path for name in _PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        message = "no Chromium on this machine: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextmanager
def launched() -> Iterator[Any]:
    """The browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One look at a page. Whatever its console complains about is kept.

    Args:
        browser: Playwright's.
        url: of the page.
        width: of the window.
        options: of Playwright's context, such as ``color_scheme``.
    """

    def __init__(self, browser: Any, url: str, *, width: int = 1280, **options: Any) -> None:
        self.origin = url.rpartition("/dhpo")[0]
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("response", lambda r: self.complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        self.page.on("request", self._asked_for)
        self.page.on("dialog", self._asked)
        self.page.goto(url)
        self.page.wait_for_selector(".card")
        self.wait_for("() => window.Bokeh && Bokeh.documents.length > 0")
        self.wait_for("() => !document.getElementById('note').textContent.includes('Reading')")

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked_for(self, request: Any) -> None:
        """Whatever the page needs comes from its own server."""
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.complaints.append(request.url)

    def _asked(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript function answers yes."""
        self.page.wait_for_function(condition)

    def open(self, tab: str) -> None:
        """Go to a tab."""
        self.page.click(f"nav [data-tab={tab}]")
        self.page.wait_for_selector(f"#tab-{tab}:not([hidden])")

    def card(self, name: str) -> str:
        """The number on a card."""
        text: str = self.page.locator(".card", has_text=name).locator("b").inner_text()
        return text

    def wait_for_card(self, name: str, number: str) -> None:
        """Wait until a card shows this."""
        number_of = (
            "[...document.querySelectorAll('.card')].find(c => c.textContent.includes(name))?.querySelector('b')"
        )
        self.page.wait_for_function(
            f"([name, number]) => {number_of}?.textContent.trim() === number", arg=[name, number]
        )

    def rows(self, table: str = "trials") -> list[list[str]]:
        """The cells of a table."""
        cells: list[list[str]] = self.page.eval_on_selector_all(
            f"#{table} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return cells

    def source(self, column: str) -> str:
        """JavaScript for the data of the first source that has this column."""
        return (
            f"[...Bokeh.documents[0].all_models].find(m => m.type === 'ColumnDataSource' && '{column}' in m.data).data"
        )

    def plot(self, name: str) -> Any:
        """The frame of a plot, in the coordinates of the window: left, top, width, height."""
        script = f"""() => {{
            const model = Bokeh.documents[0].get_model_by_name("{name}");
            const box = Bokeh.index.get_one(model).el.getBoundingClientRect();
            return [box.left, box.top, box.width, box.height];
        }}"""
        return self.page.evaluate(script)

    def fits(self) -> bool:
        """Whether nothing sticks out to the right."""
        wide, inner = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        return bool(wide <= inner)

    def screenshot(self, directory: Path | None, name: str) -> None:
        """Keep a picture, where somebody wants to look."""
        if directory is not None:
            self.page.screenshot(path=directory / f"{name}.png", full_page=True)

    def close(self) -> None:
        """Leave. The console must have had nothing to complain about, and no dialog have opened."""
        self.context.close()
        assert not self.complaints
        assert not self.dialogs
