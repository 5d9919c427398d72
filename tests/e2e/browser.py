"""A page of Prefect as a person sees it, in headless Chromium driven over its debugging protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_SECONDS = 90.0


def look_at(url: str, password: str, awaited: list[str], screenshot: Path) -> str:
    """Open a page as somebody who has signed in, and keep a picture of it.

    Args:
        url: of the page.
        password: that Prefect's page asks for, and keeps in the browser.
        awaited: words that have to appear; the page fetches them by itself.
        screenshot: the PNG to write, whatever was seen.

    Returns:
        The text of the page once all words are there, or when the time is over.
    """
    assert CHROMIUM is not None
    # Its helper processes write into the profile for a moment after the browser itself has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]
        browser = subprocess.Popen(
            [*command, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_debugger(Path(profile)), max_size=None, proxy=None) as socket:
                return _visit(_Tab(socket), url, password, awaited, screenshot)
        finally:
            browser.terminate()
            browser.wait(timeout=30)


class _Tab:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number, self._session = socket, 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params, **session}))
        while True:
            answer = json.loads(self._socket.recv(timeout=_SECONDS))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result


def _visit(tab: _Tab, url: str, password: str, awaited: list[str], screenshot: Path) -> str:
    kept = json.dumps(base64.b64encode(password.encode()).decode())
    tab.call("Page.enable")
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=f"localStorage.setItem('prefect-password', {kept})")
    tab.call("Page.navigate", url=url)
    deadline = time.monotonic() + _SECONDS
    while True:
        text = str(tab.call("Runtime.evaluate", expression="document.body.innerText")["result"].get("value", ""))
        if all(word in text for word in awaited) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    screenshot.parent.mkdir(parents=True, exist_ok=True)
    screenshot.write_bytes(base64.b64decode(tab.call("Page.captureScreenshot", format="png")["data"]))
    return text


def _debugger(profile: Path) -> str:
    """Where the browser listens, on loopback; it writes that down when it does."""
    written = profile / "DevToolsActivePort"
    deadline = time.monotonic() + _SECONDS
    while not written.exists() or len(written.read_text().split()) < 2:
        assert time.monotonic() < deadline, "Chromium did not start"
        time.sleep(0.1)
    port, path = written.read_text().split()
    return f"ws://127.0.0.1:{port}{path}"
