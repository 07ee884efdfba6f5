"""The command ``nextconcept compare`` around a comparison."""

import os
import signal

import pytest

from nextconcept.cli.compare import _told_how_to_go_on


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
