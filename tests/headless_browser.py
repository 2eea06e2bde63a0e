"""A real browser without a window, for tests of the pages."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_FLAGS = (
    "headless",
    "no-sandbox",  # tests may run as root
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "hide-scrollbars",
)


def _program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        reason = f"no {names[0]} is installed: apt-get install chromium chromium-driver"
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def opened(page: Path, *, width: int = 1200, height: int = 900, scheme: str = "light") -> Iterator[Any]:
    """A browser that shows a file, with nothing remembered from before.

    Args:
        page: an HTML file.
        width: of the window, in pixels; less than 500 is a phone's.
        height: of the window.
        scheme: "light" or "dark".
    """
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
        for flag in (*_FLAGS, f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = webdriver.Chrome(options=options, service=Service(_program("chromedriver")))
        try:
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            wish = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
            browser.get(page.as_uri())
            yield browser
        finally:
            browser.quit()
