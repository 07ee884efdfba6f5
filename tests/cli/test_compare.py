"""The command ``nextconcept compare`` around a comparison."""

import signal
from pathlib import Path

import pytest

from nextconcept.cli.compare import run
from nextconcept.evaluation.compare import Comparison
from tests.helpers import fails


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(signal.SIGTERM, SystemExit, (128 + signal.SIGTERM,)), (signal.SIGINT, KeyboardInterrupt, ())],
)
def test_signals__stop_with_a_word(
    number: int, error: type, code: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Comparison, "run", lambda self: signal.raise_signal(number))
    with pytest.raises(error) as stopped:
        run(["compare", "--config", "comparisons/growth"])
    assert stopped.value.args == code
    assert "the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{config: [gpt], wings: {}}", "the entry 'a' has no setting wings: there are config, options"),
        ("{config: [gpt], wings: }", "the entry 'a' has no setting wings"),
        ("{config: [gpt], option: {}}", "the entry 'a' has no setting option: did you mean options?"),
        ("{config: [gpt], growth: {share: {}}}", "growth of the entry 'a' has no setting share: did you mean shares?"),
        ("{config: [gpt]}, a: {config: [gpt]}", "compare.yaml has a twice, again in line 2"),
    ],
)
def test_unknown_settings_of_an_entry(entry: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "compare.yaml").write_text(f"name: c\nentries: {{a: {entry}}}")
    assert sentence in fails(capsys, "compare", "--config", tmp_path / "compare.yaml")
