"""Debian's Chromium, headless, for the tests of pages."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
    # only this machine's name resolves: a page that needs the network fails
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def programs() -> tuple[str, str]:
    """The paths of chromium and chromedriver; skips the test if they are missing."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("this machine has no Chromium: apt-get install chromium chromium-driver")
    return chromium, driver


@contextmanager
def browser(folder: Path) -> Iterator[Any]:
    """A browser with an empty profile in the folder."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    chromium, driver = programs()
    options = Options()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    try:
        found.set_page_load_timeout(60)
        yield found
    finally:
        found.quit()


def resize(driver: Any, width: int, height: int, phone: bool = False) -> None:
    """Set the size of the page, not that of the window."""
    about = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", about)


def complaints(driver: Any) -> list[str]:
    """The messages on the console since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]


def screenshot(driver: Any, path: Path, whole: bool = True) -> None:
    """Write a PNG of the page, including what is below the fold."""
    about = {"format": "png", "captureBeyondViewport": whole}
    if whole:
        size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        about["clip"] = {
            "x": 0,
            "y": 0,
            "width": size["width"],
            "height": size["height"],
            "scale": 1,
        }
    data = driver.execute_cdp_cmd("Page.captureScreenshot", about)["data"]
    path.write_bytes(base64.b64decode(data))


def print_pdf(driver: Any, path: Path) -> None:
    """Write the page as a printer would get it."""
    about = {"printBackground": False, "paperWidth": 8.27, "paperHeight": 11.69}
    path.write_bytes(base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", about)["data"]))
