"""A Chromium without a window. Where there is none, the tests of this folder are skipped."""

import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-prefers-reduced-motion")
"""Without a sandbox, since root and containers have none; the pages are those of the tests."""


@pytest.fixture(scope="session")
def chromium():
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("there is no Chromium; `make browser` installs one as root, where apt-get can, and runs this test")
    options = Options()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=Service(driver)) as browser:
        yield browser


@pytest.fixture
def visit(chromium: WebDriver):
    """Opens a page in a window of some width, in light or dark colours. Afterwards the console must be empty."""

    def visit(file: Path, width: int = 1280, scheme: str = "light") -> WebDriver:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        chromium.get(file.as_uri())
        return chromium

    chromium.get_log("browser")
    yield visit
    assert chromium.get_log("browser") == []
