"""The command ``nextconcept compare`` around a comparison."""

import os
import signal
from pathlib import Path

import pytest

from nextconcept.cli.compare import _told_how_to_go_on
from tests.helpers import fails


def test_sigterm__stops_with_a_word(capsys: pytest.CaptureFixture):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as error, _told_how_to_go_on():
        os.kill(os.getpid(), signal.SIGTERM)
    assert error.value.code == 128 + signal.SIGTERM
    assert "the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_interrupt__stops_with_a_word(capsys: pytest.CaptureFixture):
    with pytest.raises(KeyboardInterrupt), _told_how_to_go_on():
        raise KeyboardInterrupt
    assert "the same command goes on" in capsys.readouterr().err


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
