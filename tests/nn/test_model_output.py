"""What the plans of a forward pass are to predict."""

import itertools

import torch

from nextconcept.nn.model_output import horizon_targets


def test_horizon_targets__align_with_anchors():
    concepts = torch.arange(5.0).reshape(1, 5, 1)
    targets, known = horizon_targets(concepts, 3)
    assert targets.shape == (1, 6, 3, 1)
    for m, j in itertools.product(range(6), range(3)):
        assert known[m, j] == (m + j < 5)
        if known[m, j]:
            assert targets[0, m, j, 0] == m + j


def test_horizon_targets__end_with_the_concepts_of_each_row():
    concepts = torch.arange(10.0).reshape(2, 5, 1)
    _, known = horizon_targets(concepts, 2, torch.tensor([5, 3]))
    assert known[0].sum() == 5 + 4
    assert known[1].sum() == 3 + 2
