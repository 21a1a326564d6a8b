"""The report and the viewer in a real browser that can reach only this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bridge import compare_runs
from bridge.report.html import page
from bridge.report.viewer import Viewer
from tests.bridge.browser import browser, complaints, resize, screenshot
from tests.bridge.records import Epoch, new_log, sealed_log
from tests.bridge.serving import serving

# What the browser's own empty tab asks it for.
BROWSER = ("chrome:", "chrome-untrusted:")
pytestmark = pytest.mark.slow


def wait(condition: Callable[[], Any]) -> Any:
    """Wait until something holds; a minute at most."""
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end, "the page never got there"
        time.sleep(0.05)
    return found


def curve_pixels(driver: Any, path: Path) -> int:
    """How many coloured pixels there are where the viewer draws."""
    screenshot(driver, path, whole=False)
    pixels = plt.imread(path)[200:700, 500:1200, :3]
    return int((np.ptp(pixels, axis=2) > 0.2).sum())


def requests(driver: Any) -> set[str]:
    """Every address that the page asked for since the last call."""
    entries = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [e["params"] for e in entries if e["method"] == "Network.requestWillBeSent"]
    return {each["request"]["url"] for each in sent}


def test_the_report_shows_its_figures_offline_at_every_width(tmp_path: Path) -> None:
    for seed in range(3):
        with new_log(tmp_path / f"{seed}.h5", seed=seed) as log:
            for step in range(20):
                log.log("epochs", Epoch(step, step, (100.0 + seed) / (step + 1)))
    report = tmp_path / "report.html"
    report.write_text(page(compare_runs(sorted(tmp_path.glob("*.h5"))), ["compare"]), "utf-8")
    with browser(tmp_path) as driver:
        for width, phone in ((375, True), (1280, False)):
            resize(driver, width, 800, phone)
            driver.get(report.as_uri())
            figures = driver.find_elements("css selector", "figure svg[role=img]")
            assert figures
            assert all(each.size["width"] > 200 for each in figures)
            assert driver.find_elements("css selector", "figure svg path.line")
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            screenshot(driver, tmp_path / f"{width}.png")
            assert (tmp_path / f"{width}.png").stat().st_size > 20_000
            assert complaints(driver) == []
        own = ("file:", "data:", *BROWSER)
        assert [url for url in requests(driver) if not url.startswith(own)] == []


def test_the_viewer_draws_a_table_of_a_log(tmp_path: Path) -> None:
    with serving(Viewer(sealed_log(tmp_path / "run.h5"))) as server, browser(tmp_path) as driver:
        resize(driver, 1280, 800)
        driver.get(server.address)
        wait(lambda: "epochs" in driver.find_element("tag name", "body").text)
        assert driver.title == "run.h5"
        label = "//*[@role='treeitem'][contains(., 'metrics')]"
        wait(lambda: driver.find_elements("xpath", label))[0].click()
        wait(lambda: curve_pixels(driver, tmp_path / "viewer.png") > 300)
        severe = [each for each in complaints(driver) if "GL Driver" not in each]
        assert severe == []
        own = (server.address, "data:", "blob:", *BROWSER)
        assert [url for url in requests(driver) if not url.startswith(own)] == []
