"""A headless Chromium driven through its debugging pipe, so that pages are judged by what a browser does with them."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--mute-audio",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

# Chromium talks over descriptors 3 and 4; copies far above keep either from being overwritten by the other.
HAND_OVER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 50) for end in sys.argv[1:3]]
for end, place in zip(ends, (3, 4)):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """The path of an installed Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """One open tab: what it asked the network for and what it complained about."""

    send: Callable[..., dict[str, Any]]
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def size(self, width: int, height: int = 900, *, scale: float = 1.0) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def media(self, scheme: str = "light", *, medium: str = "", motion: str = "reduce") -> None:
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self.send("Emulation.setEmulatedMedia", media=medium, features=features)

    def open(self, path: Path, settle: float = 0.2) -> None:
        self.send("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + 30
        while self.value("document.readyState") != "complete" and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(settle)
        self.rest()

    def rest(self) -> None:
        """Wait until what was asked for is drawn."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def value(self, expression: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "script failed"))
        return answer["result"].get("value")

    def pointer(self, x: float, y: float, kind: str = "mouseMoved") -> None:
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y)
        self.rest()

    def key(self, name: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def shoot(self, out: Path, *, whole: bool = True) -> None:
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        out.write_bytes(base64.b64decode(answer["data"]))

    def print(self, out: Path) -> None:
        out.write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"]))


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """Start a browser with one empty tab and no way to the network."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [*FLAGS, f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND", "about:blank"]
        process = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(to_read), str(from_write), program, *options],
            pass_fds=(to_read, from_write),
            env={**os.environ, "TMPDIR": profile},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(from_write)
        try:
            yield _page(to_write, from_read)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            os.close(to_write)
            os.close(from_read)


def _page(to_write: int, from_read: int) -> Page:
    page: Page
    session: dict[str, str] = {}
    buffer = bytearray()
    count = 0

    def messages() -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" not in buffer:
                chunk = os.read(from_read, 1 << 16)
                if not chunk:
                    raise RuntimeError("the browser ended")
                buffer.extend(chunk)
            end = buffer.index(b"\0")
            text = bytes(buffer[:end])
            del buffer[: end + 1]
            yield json.loads(text)

    def send(method: str, **parameters: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        os.write(
            to_write, json.dumps({"id": count, "method": method, "params": parameters, **session}).encode() + b"\0"
        )
        for message in messages():
            if message.get("id") == count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return dict(message["result"])
            _note(page, message)
        raise AssertionError("the stream of messages has no end")

    page = Page(send)
    target = send("Target.createTarget", url="about:blank")["targetId"]
    session["sessionId"] = send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Runtime", "Log"):
        send(f"{domain}.enable")
    return page


def _note(page: Page, message: dict[str, Any]) -> None:
    method, parameters = message.get("method", ""), message.get("params", {})
    if method == "Network.requestWillBeSent":
        page.requests.append(parameters["request"]["url"])
    elif method == "Network.loadingFailed":
        page.complaints.append(f"a request failed: {parameters.get('errorText')}")
    elif method == "Runtime.exceptionThrown":
        page.complaints.append(parameters["exceptionDetails"].get("exception", {}).get("description", "exception"))
    elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
        page.complaints.append(str(parameters["args"]))
    elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
        page.complaints.append(parameters["entry"]["text"])
