"""A page in headless Chromium, driven through its debugging pipe (DevTools protocol): real keys, clicks, downloads."""

import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_S = 60.0
START = """
import os, sys
os.dup2(int(sys.argv[1]), 3), os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from descriptor 3 and answers on 4."""


def chromium() -> str | None:
    """The program, or None without one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """Context manager: one window on one page; the profile, and what is downloaded, lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        commands, answers = os.pipe(), os.pipe()
        self._write, self._read = commands[1], answers[0]
        # Above 4, so that neither is overwritten when they are moved to 3 and 4.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (commands[0], answers[1])]
        program = chromium()
        assert program is not None
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
        words = [program, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, theirs), *words],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (*theirs, commands[0], answers[1]):
            os.close(fd)
        self._numbers, self._held, self._session = itertools.count(1), b"", ""
        self.requests: list[str] = []

    def __enter__(self) -> "Browser":
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Network.enable")
        self.call("Page.enable")
        self.call("Browser.setDownloadBehavior", browser=True, behavior="allow", downloadPath=str(self.downloads))
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, *, browser: bool = False, **params: Any) -> dict[str, Any]:
        """Runs one command and returns its result; addresses that the page asks for are added to `requests`."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session and not browser:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._read], [], [], TIMEOUT_S)
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("the browser does not answer")
            self._held += part
        line, _, self._held = self._held.partition(b"\0")
        return json.loads(line)

    def open(self, page: Path) -> None:
        """Loads a file and waits until it is complete."""
        self.call("Page.navigate", url=page.as_uri())
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Waits until an expression is true."""
        self.wait(lambda: self.value(expression), expression)

    def wait(self, done: Any, what: str) -> None:
        """Waits until `done()` is true."""
        deadline = time.monotonic() + TIMEOUT_S
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            time.sleep(0.02)

    def key(self, key: str, code: int = 0) -> None:
        """Presses and releases a key: a character, or the name of a key with its code."""
        code, text = code or ord(key.upper()), key if len(key) == 1 else ""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def click(self, selector: str) -> None:
        """Clicks the middle of an element with the mouse."""
        found = f"document.querySelector({selector!r})"
        at = f"(e => (e.scrollIntoView({{block: 'center'}}), e.getBoundingClientRect()))({found})"
        x, y = (self.value(f"(r => r.{a} + r.{b} / 2)({at})") for a, b in (("x", "width"), ("y", "height")))
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
