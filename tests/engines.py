"""The built book in Firefox and in WebKit, each driven by the protocol that it speaks itself:

    python tests/engines.py                    (after `make book`)
    python tests/engines.py firefox

Every page is opened and read to its end; then the front page plays, a tour of the lab is
walked by keyboard, and a network trains in the page. Prints a line for each and exits with 1
if something went wrong. Chromium has tests of its own; this is no part of `make test`, which
asks nobody for three browsers.

On Debian: apt-get install firefox-esr webkit2gtk-driver xvfb

Firefox is spoken to by WebDriver BiDi (https://w3c.github.io/webdriver-bidi), WebKit by
WebDriver (https://w3c.github.io/webdriver): no driver between.
"""

import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import websocket  # the package websocket-client, which Jupyter brings
from browser import DESKTOP, pages, serve
from waiting import PATIENCE_MS

START = 30  # seconds that a browser is given to start
LISTEN = """window.wrong = [];
    addEventListener("error", (e) => window.wrong.push(e.message || e.target.src), true);
    addEventListener("unhandledrejection", (e) => window.wrong.push(String(e.reason)));"""
# Scrolls to every figure, one after another, so that all of them are asked for.
READ = """const plots = [...document.querySelectorAll(".lrd-plot")];
    const next = plots.find((plot) => !("drawn" in plot.dataset));
    next?.scrollIntoView(); next?.dispatchEvent(new Event("pointerenter"));
    return document.readyState === "complete" && !next;"""
ELSEWHERE = """return performance.getEntriesByType("resource").map(({name}) => name)
    .filter((name) => !name.startsWith(location.origin) && !/^(data|blob):/.test(name));"""
RECORDED = "document.querySelector('.lrd-lab[data-lab=recorded]')"
TRAIN = "document.querySelector('.lrd-lab[data-lab=train]')"
PRESS = """[...{root}.querySelectorAll("button")]
    .find((button) => button.innerText.trim().startsWith("{name}")).click()"""
STEP = (
    f"Number({TRAIN}.querySelector('.lab-live-progress').innerText.match(/\\d+/)?.[0] ?? 0)"
)

# Firefox paints before it has read a whole page, and then says this of the formula of which
# it has read a half; tests/test_site.py holds that all have what they need.
HALF_READ = "Invalid markup: Incorrect number of children for <m"


class Firefox:
    """A page of a Firefox without windows, by BiDi over a WebSocket."""

    def __init__(self, folder: str) -> None:
        path = shutil.which("firefox-esr") or shutil.which("firefox")
        if path is None:
            raise LookupError("no Firefox: apt-get install firefox-esr")
        log = Path(folder, "log")
        command = [path, "--headless", "--profile", folder, "--remote-debugging-port=0"]
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file)
        end = time.monotonic() + START
        while not (found := re.search(r"BiDi listening on (\S+)", log.read_text())):
            if time.monotonic() > end:
                raise TimeoutError(f"Firefox does not listen: {log.read_text()!r:.500}")
            time.sleep(0.1)
        address = found[1]
        self.socket = websocket.create_connection(
            f"{address}/session", suppress_origin=True, timeout=PATIENCE_MS / 1000
        )
        self.sent = 0
        self.logged: list[str] = []
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded"])
        (page,) = self.ask("browsingContext.getTree")["contexts"]
        self.page = {"context": page["context"]}
        size = {"viewport": dict(DESKTOP)}
        self.ask("browsingContext.setViewport", **self.page, **size)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command; what is logged meanwhile is kept."""
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": params}))
        while True:
            got = json.loads(self.socket.recv())
            said = got["params"] if got.get("method") == "log.entryAdded" else {}
            if said.get("level") == "error" and not said["text"].startswith(HALF_READ):
                self.logged.append(said["text"])
            if got.get("id") == self.sent:
                if got["type"] == "error":
                    raise RuntimeError(f"{method}: {got['message']}")
                return got["result"]

    def open(self, url: str) -> None:
        self.ask("browsingContext.navigate", **self.page, url=url, wait="complete")

    def run(self, body: str) -> Any:
        """What a function of this body returns, by way of JSON."""
        got = self.ask(
            "script.evaluate",
            expression=f"JSON.stringify((() => {{{body}}})() ?? null)",
            target=self.page,
            awaitPromise=False,
        )
        if got["type"] != "success":
            raise RuntimeError(got["exceptionDetails"]["text"])
        return json.loads(got["result"]["value"])

    def act(self, actions: list[dict[str, Any]]) -> None:
        self.ask("input.performActions", **self.page, actions=actions)

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait()


class WebKit:
    """A page of WebKitGTK's MiniBrowser on a screen of its own, by WebDriver over HTTP."""

    def __init__(self, folder: str) -> None:
        programs = [shutil.which("Xvfb"), shutil.which("WebKitWebDriver")]
        found = [*programs, *glob("/usr/lib/*/webkit2gtk-4*/MiniBrowser")]
        if None in found or len(found) < 3:
            raise LookupError("no WebKit: apt-get install webkit2gtk-driver xvfb")
        screen, driver, browser = found[:3]
        self.logged: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        size = f"{DESKTOP['width']}x{DESKTOP['height'] + 100}x24"
        shown = subprocess.Popen(
            [screen, "-displayfd", "1", "-screen", "0", size],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert shown.stdout is not None
        environment = {
            "DISPLAY": f":{shown.stdout.readline().strip()}",
            "HOME": folder,
            "PATH": "/usr/bin:/bin",
            "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",  # as root it has none
        }
        driven = subprocess.Popen(
            [driver, f"--port={self.port}"], env=environment, stderr=subprocess.DEVNULL
        )
        self.processes = [driven, shown]
        self.at = "/session"
        options = {"binary": browser, "args": ["--automation"]}
        wanted = {"alwaysMatch": {"webkitgtk:browserOptions": options}}
        end = time.monotonic() + START
        while True:
            try:
                made = self.ask("POST", "", {"capabilities": wanted})
                break
            except ConnectionRefusedError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        self.at = f"/session/{made['sessionId']}"
        self.ask("POST", "/window/rect", {"x": 0, "y": 0, **DESKTOP})

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The value of the answer to a command."""
        server = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=PATIENCE_MS / 1000
        )
        server.request(method, self.at + path, None if body is None else json.dumps(body))
        value = json.loads(server.getresponse().read())["value"]
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{path}: {value['error']}: {value['message']}")
        return value

    def open(self, url: str) -> None:
        self.ask("POST", "/url", {"url": url})

    def run(self, body: str) -> Any:
        """What a function of this body returns, by way of JSON."""
        script = f"return JSON.stringify((() => {{{body}}})() ?? null)"
        return json.loads(self.ask("POST", "/execute/sync", {"script": script, "args": []}))

    def act(self, actions: list[dict[str, Any]]) -> None:
        self.ask("POST", "/actions", {"actions": actions})

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.ask("DELETE", "")
        for process in self.processes:
            process.terminate()
            process.wait()


Engine = Firefox | WebKit
ENGINES: dict[str, type[Engine]] = {"firefox": Firefox, "webkit": WebKit}


def wait(engine: Engine, condition: str) -> None:
    """Until the expression is true in the page."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not engine.run(f"return Boolean({condition})"):
        if time.monotonic() > end:
            raise TimeoutError(f"never true: {condition}")
        time.sleep(0.1)


def press(engine: Engine, key: str) -> None:
    """One key of a keyboard, down and up (its code: WebDriver, 17.4.2)."""
    strokes = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
    engine.act([{"type": "key", "id": "keyboard", "actions": strokes}])


ARROW_RIGHT = "\ue014"


def reads(engine: Engine, url: str) -> None:
    """A page is there with all of its figures, and asks nobody else for anything."""
    engine.open(url)
    engine.run(LISTEN)
    wait(engine, f"(() => {{{READ}}})()")
    told(engine)


def told(engine: Engine) -> None:
    """AssertionError for what went wrong on the page, or left this machine."""
    wrong = engine.run("return window.wrong") + engine.logged
    engine.logged = []
    assert not wrong, wrong
    elsewhere = engine.run(ELSEWHERE)
    assert not elsewhere, elsewhere


def plays(engine: Engine, url: str) -> None:
    """The first picture of the front page follows its slider."""
    engine.open(url)
    engine.run(LISTEN)
    picture = "document.querySelector('.lrd-opening')"
    wait(engine, f"{picture}?.querySelector('input[type=range]')")
    slider = f"{picture}.querySelector('input[type=range]')"
    drawn = f"[...{picture}.querySelectorAll('svg, canvas')].map((s) => s.outerHTML).join()"
    engine.run(f"window.before = {drawn}")
    engine.run(f"{slider}.focus(); {slider}.scrollIntoView({{block: 'center'}})")
    press(engine, ARROW_RIGHT)
    wait(engine, f"{drawn} !== window.before")
    told(engine)


def walks(engine: Engine, url: str) -> None:
    """The first tour of the recorded lab, by keyboard from stop to stop."""
    engine.open(url)
    engine.run(LISTEN)
    wait(engine, f"{RECORDED}?.dataset.state === 'ready'")
    engine.run(
        f"""const select = [...{RECORDED}.querySelectorAll("select")]
            .find((one) => one.labels[0]?.innerText.trim() === "tour"
                || one.ariaLabel === "tour");
        select.value = "0"; select.dispatchEvent(new Event("change", {{bubbles: true}}));"""
    )
    value = f"{RECORDED}.querySelector('.lab-transport input').ariaValueText"
    wait(engine, f"{value} === 'step 700'")
    engine.run(f"{RECORDED}.querySelector('.lab-tour button:last-of-type').focus()")
    for step in (1300, 1400):
        press(engine, ARROW_RIGHT)
        wait(engine, f"{value} === 'step {step}'")
    told(engine)


def trains(engine: Engine, url: str) -> None:
    """Two hundred steps of the small preset in the page."""
    engine.open(url)
    engine.run(LISTEN)
    wait(engine, TRAIN)
    engine.run(f"{TRAIN}.scrollIntoView()")
    wait(engine, f"{TRAIN}.dataset.state === 'idle'")
    engine.run(PRESS.format(root=TRAIN, name="Start"))
    wait(engine, f"{STEP} >= 200 || {TRAIN}.dataset.state === 'failed'")
    engine.run(PRESS.format(root=TRAIN, name="Stop"))
    wait(engine, f"{TRAIN}.dataset.state === 'stopped'")
    told(engine)


def tour(engine: Engine, site: str) -> Iterator[tuple[str, str | None]]:
    """What is done, and what went wrong with it, or None."""
    done = [(f"reads {page}", reads, page) for page in pages()]
    done += [
        ("plays the front page", plays, "intro.html"),
        ("walks a tour", walks, "lab.html"),
        ("trains", trains, "lab.html"),
    ]
    for name, act, page in done:
        try:
            act(engine, f"{site}/{page}")
            yield name, None
        except (AssertionError, RuntimeError, TimeoutError) as error:
            yield name, f"{type(error).__name__}: {error}"


def main(names: list[str]) -> int:
    if unknown := set(names) - set(ENGINES):
        sys.exit(f"no such browser: {', '.join(sorted(unknown))}; {', '.join(ENGINES)}")
    wrong = 0
    with serve() as site:
        for name in names or ENGINES:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                try:
                    engine = ENGINES[name](folder)
                except LookupError as error:
                    sys.exit(str(error))
                try:
                    for what, error in tour(engine, site):
                        wrong += error is not None
                        print(f"{name:8} {what:40} {error or 'ok'}", flush=True)
                finally:
                    engine.close()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
