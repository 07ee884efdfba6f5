"""A published result at toy size: what planning brings where a next-token model guesses."""

from pathlib import Path

import pytest
import torch

from nextconcept.core.config import ModelConfig
from nextconcept.tasks.accuracy import TaskAccuracy
from nextconcept.tasks.datamodule import TaskDataModule
from nextconcept.tasks.star_graph import StarGraph
from nextconcept.training.callbacks import ComputeBudget
from nextconcept.training.losses import LossConfig
from nextconcept.training.module import ConceptModule
from nextconcept.training.optim import OptimizerConfig
from tests.helpers import trainer_of


def answers_of(levels: int, seed: int, folder: Path, flops: float = 1.5e11) -> dict[str, float]:
    """Train on G(2, 4) with 8 labels to a budget, and return the shares of right answers."""
    torch.manual_seed(seed)
    task = StarGraph(arms=2, path_length=4, nodes=8, test_lines=500)
    data = TaskDataModule(task, levels, chunk_size=3, batch_size=32, eval_batch_size=500, seed=seed)
    config = ModelConfig(
        vocab_size=data.vocab_size,
        levels=levels,
        chunk_size=3,
        sharing="separate",
        width=64,
        depth=[1, 2] if levels == 2 else 2,
        num_heads=2,
        horizon=2,
        context_length=data.context_length,
    )
    loss = LossConfig(terms={"decode": 1.0}, level_weight=3.0)
    module = ConceptModule(config, loss, OptimizerConfig(lr=8e-3, warmup_steps=20))
    callbacks = [ComputeBudget(flops=flops), TaskAccuracy()]
    trainer = trainer_of(folder, 1, callbacks=callbacks, gradient_clip_val=1.0)  # the budget sets the steps
    trainer.fit(module, data)
    return dict(trainer.validate(module, data, verbose=False)[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_two_levels__decide_the_branch_where_a_gpt_of_equal_flops_guesses(tmp_path: Path):
    """As Bachmann & Nagarajan (2024) find of next-token training; the plan carries the branch."""
    planned, gpt = (answers_of(levels, 2, tmp_path) for levels in (2, 1))
    assert planned["val/answer/first_branch"] > 0.9
    assert planned["val/answer/exact"] > 0.9
    assert planned["val/answer/first_branch_shuffled"] < 0.5
    assert 0.4 < gpt["val/answer/first_branch"] < 0.6
