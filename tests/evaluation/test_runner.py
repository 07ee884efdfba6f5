import os

import pytest
import torch

from nextconcept.evaluation.runner import ProcessRunner


def test_threads__are_the_cores_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 4, 5}, raising=False)
    assert ProcessRunner(jobs=2).threads == 2


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, ["0", "1"]), ("2,3", ["2", "3"]), ("GPU-a, MIG-b", ["GPU-a", "MIG-b"]), ("", ["0", "1"])],
)
def test_environment__runs_get_the_gpus_that_the_user_allows(
    visible: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    runner = ProcessRunner(jobs=3)
    with runner._environment() as one, runner._environment() as two, runner._environment() as three:
        found = [environment["CUDA_VISIBLE_DEVICES"] for environment in (one, two, three)]
    assert found == [*expected, expected[0]]
