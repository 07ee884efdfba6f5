"""The first losses of the shipped experiments are those that were recorded."""

import json

import pytest
import torch

from tests import golden

RECORDED = json.loads(golden.FILE.read_text())["runs"]
pytestmark = pytest.mark.filterwarnings("ignore:LightningCLI's args parameter", "ignore:.*does not have many workers.*")


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# A step of these takes two to ten seconds.
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("v11_")) for name in golden.RUNS]


@pytest.mark.parametrize("name", NAMES)
def test_losses__of_the_first_steps(name: str, one_thread: None):
    found = golden.losses(name, 2)
    assert found.keys() == RECORDED[name].keys()
    for tag, values in found.items():
        # Another processor may round differently; golden.py itself compares to the last bit.
        assert values == pytest.approx(RECORDED[name][tag][:2], rel=2e-5)
