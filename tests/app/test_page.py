"""The page of plans: its server, and the page in a browser."""

import http.client
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nextconcept import InputError, load
from nextconcept.app.page import HOST, bind, make_page
from nextconcept.app.session import PlanSession
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.plan_steps import CONTROL_CHARACTERS
from nextconcept.inference.text import Writer
from tests.helpers import fails, open_model, small_config

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<script>window.harm = 1</script><img src=x onerror='harm = 1'> ${harm = 1} {{#each value}}x{{/each}}"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    model = open_model(small_config(vocab_size=256, levels=3, chunk_size=2, width=128, context_length=64))
    save_pretrained(model, ByteTokenizer(), tmp_path / "exported")
    return tmp_path / "exported"


def test_make_page__says_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    with pytest.raises(InputError, match=re.escape("pip install 'nextconcept[app]'")):
        make_page(PlanSession(Writer(open_model(small_config(vocab_size=256)), ByteTokenizer())), "title")
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_bind__to_this_machine_alone():
    with bind(0) as bound:
        host, port = bound.getsockname()
        assert host == HOST == "127.0.0.1"
        with pytest.raises(InputError, match=f"at port {port} .*: give another with --port"):
            bind(port)
    for wrong in (-1, 65536):
        with pytest.raises(InputError, match="it must be 0 to 65535"):
            bind(wrong)


def test_app__needs_a_plan_in_words(tmp_path: Path, capsys: pytest.CaptureFixture):
    for changes, sentence in [
        ({"levels": 1}, "tokens alone, and no plan"),
        ({"encoder__composition": "max"}, "not 'max'"),
    ]:
        folder = tmp_path / sentence[:6]
        save_pretrained(open_model(small_config(vocab_size=256, **changes)), ByteTokenizer(), folder)
        assert sentence in fails(capsys, "app", "--ckpt_path", folder)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the page of an export, and yield its address."""
    command = [sys.executable, "-m", "nextconcept", "app", "--ckpt_path", str(folder), "--port", "0"]
    path = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = [""]
    try:
        while not lines[-1].startswith(f"http://{HOST}:"):
            lines.append(process.stdout.readline())
            assert lines[-1], lines  # "" is the end of what a failed process says
        yield lines[-1].split()[0]
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert "Traceback" not in output


@pytest.mark.slow
def test_serve__other_sites_do_not_reach_the_page(exported: Path):
    """A site whose name points to this machine is refused, and browsers load nothing else."""
    pytest.importorskip("gradio", reason="the app needs Gradio")
    with served(exported) as address:
        answers = {}
        for host in (address.removeprefix("http://"), "localhost:80", "evil.example"):
            connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
            connection.request("GET", "/", headers={"Host": host})
            answers[host] = connection.getresponse()
            body = answers[host].read().decode()
            connection.close()
        assert [answer.status for answer in answers.values()] == [200, 200, 400]
        policy = answers["localhost:80"].headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
        assert "Invalid host" in body


@pytest.mark.slow
def test_page__in_a_browser(exported: Path):
    """Write, change a step, read the changed text, compare; bad prompts are text or a sentence."""
    pytest.importorskip("gradio", reason="the app needs Gradio")
    browsers = pytest.importorskip("playwright.sync_api", reason="a browser is driven by playwright")
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    writer, prompt = load(exported), "the quick brown"
    with served(exported) as address, browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page()
        requests: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)

        def shows(text: str, where: str = "#view bdi.new") -> None:
            shown = text.translate(CONTROL_CHARACTERS)
            browsers.expect(page.locator(where).first).to_have_text(shown, timeout=30_000)

        def write(text: str) -> None:
            page.fill("#prompt textarea", text)
            page.click("#write")

        write(prompt)
        shows(writer.plan(prompt).written)
        marks = "cells => cells.map(cell => getComputedStyle(cell, '::after').content).filter(one => one.includes('%'))"
        assert page.eval_on_selector_all("#view td.c", marks) == []
        page.hover(f"#view table.m1-{(len(prompt) - 1) // 2} .q0")  # the last token of the prompt, in the table
        assert len(page.eval_on_selector_all("#view td.c", marks)) == 3  # the steps of the plan that it read
        page.click("#view tr[data-level='2'][data-step='1'] td")
        browsers.expect(page.locator("#step input")).to_have_value(re.compile(r"level 2, step \+1"), timeout=30_000)
        page.fill("#instead textarea, #instead input", "kiwi")
        page.click("text=Replace")
        changed = writer.plan(prompt, "2:1=kiwi")
        assert changed.written != writer.plan(prompt).written
        shows(changed.written)
        shows("kiwi", "#view tr[data-level='2'][data-step='1'] bdi")
        page.fill("#other textarea", "jumps over")
        page.click("text=Compare")
        browsers.expect(page.locator("#sources h3")).to_have_count(3, timeout=30_000)

        page.fill("#instead textarea, #instead input", "far too long for a concept")
        page.click("text=Replace")
        browsers.expect(page.locator("#problem [role=alert]")).to_contain_text("a concept of level", timeout=30_000)
        write("x" * 20_000)
        browsers.expect(page.locator("#problem [role=alert]")).to_contain_text("20,000 characters", timeout=30_000)
        not_utf8 = "area.value = 'ab\\ud800cd'; area.dispatchEvent(new Event('input', {bubbles: true}))"
        page.eval_on_selector("#prompt textarea", f"area => {{ {not_utf8} }}")
        page.click("#write")
        browsers.expect(page.locator("#problem [role=alert]")).to_contain_text("not valid UTF-8", timeout=30_000)
        write(HOSTILE)
        shows(HOSTILE, "#view .text bdi")
        browsers.expect(page.locator("#problem [role=alert]")).to_have_count(0)
        assert page.evaluate("window.harm") is None
        assert page.locator("#view script, #view img").count() == 0
        assert errors == []
        assert len(requests) > 10
        assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
        browser.close()
