"""Headless Chromium, spoken to by WebDriver."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1200,1600"),
)


class Browser:
    """One tab."""

    def __init__(self, port: int, profile: Path) -> None:
        # No proxy of the environment stands between this test and its own browser.
        self._open = build_opener(ProxyHandler({})).open
        self._at = f"http://127.0.0.1:{port}"
        options = {
            "args": [*FLAGS, f"--user-data-dir={profile}"],
            "binary": shutil.which("chromium"),
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._at += f"/session/{session['sessionId']}"

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._at + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with self._open(request, timeout=60) as response:
                return json.load(response)["value"]
        except HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def go(self, url: str) -> None:
        """Load a page, and return once all that it asked for is there."""
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """Return what a function body of JavaScript returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def point_at(self, x: int, y: int) -> None:
        """Move the mouse to a place in the window."""
        move = {"type": "pointerMove", "duration": 0, "x": x, "y": y, "origin": "viewport"}
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self._ask("POST", "/actions", {"actions": [mouse]})

    def console(self) -> list[str]:
        """What the console said since the last time, of refusals and failed requests too."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last time."""
        events = (
            json.loads(entry["message"])["message"]
            for entry in self._ask("POST", "/se/log", {"type": "performance"})
        )
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def screenshot(self) -> str:
        """The window as a PNG, in base64."""
        image: str = self._ask("GET", "/screenshot")
        return image

    def close(self) -> None:
        self._ask("DELETE", "")


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert driver.stdout is not None
        # "ChromeDriver was started successfully on port 41234."
        started = next(line for line in driver.stdout if "started successfully on port" in line)
        browser = Browser(int(started.rstrip(".\n").rpartition(" ")[2]), folder)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.communicate(timeout=30)
