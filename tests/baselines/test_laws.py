"""What holds for every baseline."""

import functools
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nextconcept import InputError, NextConceptModel, load
from nextconcept.baselines import BeliefState, MultiToken, NextLatent, Teacherless
from nextconcept.core.config import ModelConfig
from nextconcept.tasks.accuracy import TaskAccuracy
from nextconcept.tasks.datamodule import TaskDataModule
from nextconcept.training.callbacks import LastCheckpoint, StoreModelMetadata
from nextconcept.training.losses import LossConfig, Losses, compute_losses, training_flops_per_token
from nextconcept.training.module import ConceptModule
from nextconcept.training.objectives import Objective
from nextconcept.training.optim import OptimizerConfig
from tests.baselines.batches import gpt, lines
from tests.helpers import Reverse, StopAt, small_config, trainer_of, weights_after

MAKERS: dict[str, Callable[[NextConceptModel], Objective]] = {
    "multi_token": functools.partial(MultiToken, tokens_ahead=3),
    "next_latent": functools.partial(NextLatent, steps=2),
    "teacherless": Teacherless,
    "belief_state": functools.partial(BeliefState, prompt=5),
    "belief_state_all": BeliefState,
}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def losses_of(model: NextConceptModel, objective: Objective, tokens: torch.Tensor, mask: torch.Tensor) -> Losses:
    return compute_losses(LossConfig(), model, model(objective.inputs(tokens, mask)), tokens, mask, None, objective)


@every
def test_objective__every_parameter_gets_a_gradient(make: Callable[[NextConceptModel], Objective]):
    model = gpt()
    objective = make(model)
    # The empty suffix is learnt from lines that end with the window.
    tokens, mask = lines()
    losses = losses_of(model, objective, tokens, mask | (torch.arange(17) > 10))
    losses.total.backward()
    assert objective.names == tuple(losses.terms)
    parameters = [*model.named_parameters(), *objective.named_parameters()]
    assert [name for name, parameter in parameters if parameter.grad is None or not parameter.grad.any()] == []


@every
def test_objective__tokens_that_are_not_learnt_are_no_target(make: Callable[[NextConceptModel], Objective]):
    model = gpt()
    objective, (tokens, mask) = make(model), lines()
    losses = losses_of(model, objective, tokens, torch.zeros_like(mask))
    terms = {name: term.item() for name, term in losses.terms.items() if name != "next_state"}
    assert not any(terms.values())
    assert losses.total.isfinite()


@every
def test_flops__are_those_of_a_training_step(make: Callable[[NextConceptModel], Objective]):
    model = gpt(width=64, depth=3)
    objective = make(model)
    tokens, mask = torch.randint(20, (2, 17)), torch.ones(2, 17, dtype=torch.bool)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        losses_of(model, objective, tokens, mask).total.backward()
    counted = training_flops_per_token(LossConfig(), model, 16, objective)
    assert counted == pytest.approx(counter.get_total_flops() / 32, rel=0.01)
    assert (counted > 3.01 * model.flops_per_token(16)) == bool(objective.names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@every
def test_objective__compiles_without_a_graph_break(make: Callable[[NextConceptModel], Objective]):
    model = gpt()
    objective, (tokens, mask) = make(model), lines()
    output = model(objective.inputs(tokens, mask))
    wanted = objective(model, output, tokens, mask)
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(model, output, tokens, mask), wanted)


@every
def test_objective__is_for_models_with_one_level(make: Callable[[NextConceptModel], Objective]):
    with pytest.raises(InputError, match="with one level, not 2"):
        make(NextConceptModel(small_config()))


CONFIG = ModelConfig(vocab_size=8, levels=1, width=32, depth=2, num_heads=4, context_length=9)


def module_of(make: Callable[[NextConceptModel], Objective] | None = None) -> ConceptModule:
    torch.manual_seed(0)
    return ConceptModule(CONFIG, optimizer=OptimizerConfig(lr=3e-3, warmup_steps=2), objective=make)


def data_of() -> TaskDataModule:
    return TaskDataModule(Reverse(), levels=1, batch_size=4, eval_batch_size=10, seed=0)


@every
def test_module__a_seed_draws_one_model_for_all_objectives(make: Callable[[NextConceptModel], Objective]):
    plain = module_of().model.state_dict()
    assert all(torch.equal(value, plain[name]) for name, value in module_of(make).model.state_dict().items())


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@every
def test_fit__answers_are_measured_and_checkpoints_load(make: Callable[[NextConceptModel], Objective], tmp_path: Path):
    """A resumed run equals an uninterrupted one; model and objective are what was saved."""

    def trainer_with(name: str, *callbacks: L.Callback) -> L.Trainer:
        last = LastCheckpoint(every_n_train_steps=2)
        last.dirpath = str(tmp_path / name)
        every = [TaskAccuracy(), StoreModelMetadata(), last, *callbacks]
        return trainer_of(tmp_path, 4, callbacks=every, enable_checkpointing=True)

    whole = weights_after(trainer_with("whole"), module_of(make), data_of())
    trainer_with("half", StopAt(2)).fit(module_of(make), data_of())
    path, again, trainer = tmp_path / "half" / "last.ckpt", module_of(make), trainer_with("rest")
    resumed = weights_after(trainer, again, data_of(), path)
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, atol=0, rtol=0)
    path = tmp_path / "rest" / "last.ckpt"
    measured = trainer.validate(again, data_of(), verbose=False)[0]
    wanted = {"val/answer/exact", "val/answer/token_4", "val/loss", "val/loss/tokens"}
    assert wanted | {f"val/loss/{name}" for name in again.objective.names} <= measured.keys()
    with pytest.raises(InputError, match="trained with the objective nextconcept.baselines"):
        trainer_of(tmp_path, 4).validate(module_of(), data_of(), path, weights_only=True)
    if not again.objective.writes_alone:
        with pytest.raises(InputError, match="Teacherless and does not write one token after another"):
            load(path)
        return
    writer = load(path)
    tokens = torch.randint(8, (2, 9))
    assert torch.equal(writer.model(tokens).logits, again.model.eval()(tokens).logits)
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 8
    assert torch.equal(writer.model(changed).logits[:, :6], writer.model(tokens).logits[:, :6])


@pytest.mark.parametrize(
    ("trained", "other", "sentence"),
    [
        (MAKERS["multi_token"], functools.partial(MultiToken, tokens_ahead=2), "multi_token.MultiToken: give"),
        (
            functools.partial(MultiToken, weight=0.5),
            functools.partial(MultiToken, weight=0.25),
            r"MultiToken \(weight 0.5, not 0.25\): give",
        ),
        (
            functools.partial(NextLatent, steps=2, kl_weight=1.0),
            functools.partial(NextLatent, steps=3, kl_weight=2.0),
            r"NextLatent \(kl_weight 1.0, not 2.0; steps 2, not 3\): give",
        ),
    ],
    ids=["shapes", "setting", "settings"],
)
def test_validate__refuses_other_settings_of_an_objective(
    trained: object, other: object, sentence: str, tmp_path: Path
):
    trainer = trainer_of(tmp_path, 1, callbacks=[StoreModelMetadata()], limit_val_batches=0)
    trainer.fit(module_of(trained), data_of())
    path = tmp_path / "run.ckpt"
    trainer.save_checkpoint(path)
    trainer_of(tmp_path, 1, limit_val_batches=1).validate(module_of(trained), data_of(), path, weights_only=True)
    with pytest.raises(InputError, match=f"other settings of the objective nextconcept.*{sentence}"):
        trainer_of(tmp_path, 1).validate(module_of(other), data_of(), path, weights_only=True)
