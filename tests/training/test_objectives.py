from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from nextconcept import InputError, NextConceptModel
from nextconcept.data.windows import ConceptBatch
from nextconcept.inference.generate import generate
from nextconcept.nn.model_output import ModelOutput
from nextconcept.training.losses import LossConfig, compute_losses
from nextconcept.training.module import ConceptModule
from nextconcept.training.objectives import Objective, token_loss
from nextconcept.training.optim import OptimizerConfig, parameter_groups
from tests.helpers import small_config, trainer_of


class Halved(Objective):
    """Half of the cross-entropy, after inputs that are read backwards."""

    names = ("half", "bias")

    def __init__(self, model: NextConceptModel) -> None:
        super().__init__(model)
        self.bias = torch.nn.Parameter(torch.ones(3))

    def inputs(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return tokens[:, :-1].flip(1)

    def forward(
        self, model: NextConceptModel, output: ModelOutput, tokens: torch.Tensor, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"half": token_loss(output.logits, tokens, mask) / 2, "bias": self.bias.square().sum()}


def batch_of(rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randint(64, (rows, 33)), torch.ones(rows, 33, dtype=torch.bool)


@pytest.mark.parametrize("levels", [1, 2])
def test_compute_losses__the_terms_replace_the_next_token_and_leave_the_concepts(levels: int):
    model = NextConceptModel(small_config(levels=levels))
    objective, (tokens, mask) = Halved(model), batch_of()
    mask[:, :12] = False
    output = model(objective.inputs(tokens, mask))
    plain, losses = (compute_losses(LossConfig(), model, output, tokens, mask, None, one) for one in (None, objective))
    assert losses.tokens == plain.tokens
    assert not losses.tokens.requires_grad  # no backward pass, and nothing kept for one
    torch.testing.assert_close(losses.total, plain.total - plain.tokens / 2 + 3)
    assert list(losses.named())[1:3] == ["term half of the objective", "term bias of the objective"]


def test_objective__by_itself_is_next_token_prediction():
    model, (tokens, mask) = NextConceptModel(small_config()), batch_of()
    objective = Objective(model)
    output = model(objective.inputs(tokens, mask))
    losses = [compute_losses(LossConfig(), model, output, tokens, mask, None, one).total for one in (None, objective)]
    assert losses[0] == losses[1]
    prompts = tokens[:, :9]
    assert torch.equal(objective.write(model, prompts, 4), generate(model, prompts, 4, temperature=0.0)[:, 9:])
    assert not objective.describe()


def test_module__trains_the_objective_and_measures_behind_its_inputs():
    module = ConceptModule(small_config(levels=1), objective=Halved)
    tokens, mask = batch_of()
    groups = parameter_groups(OptimizerConfig(), module.model, module.objective)
    assert [group.decays for group in groups if "objective.bias" in group.parameters] == [False]
    output = module.model.eval()(tokens[:, :-1].flip(1))
    found = module.predict_step(tokens, 0)["nats"]
    torch.testing.assert_close(found.mean(), token_loss(output.logits, tokens, mask))
    module.evaluator.update(module.model, ConceptBatch(tokens, mask), objective=module.objective)
    measured = module.evaluator.finish()
    assert measured["loss/half"] == pytest.approx(measured["loss/tokens"] / 2)
    assert measured["loss"] == pytest.approx(measured["loss/half"] + 3)
    assert measured["loss/tokens"] == pytest.approx(found.mean().item())


def test_module__the_norm_of_the_gradient_includes_the_objective():
    module = ConceptModule(small_config(levels=1), objective=Halved)
    module.objective.bias.square().sum().backward()
    assert module.gradient_norm() == pytest.approx(12**0.5)


@pytest.mark.parametrize("names", [("tokens",), ("concepts_l1",), ("half", "half")])
def test_names__of_another_part_of_the_loss_are_refused(names: tuple[str, ...]):
    class Named(Halved):
        pass

    Named.names = names
    with pytest.raises(InputError, match=f"the term '{names[0]}' of Named has the name of another part"):
        ConceptModule(small_config(), objective=Named)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"half": torch.zeros(())}, "half, bias: it returned half"),
        ({"half": torch.zeros(()), "bias": torch.zeros(()), "third": torch.zeros(())}, "it returned half, bias, third"),
        ({"half": torch.zeros(2), "bias": torch.zeros(())}, "'half' is none"),
        ({"half": 0.5, "bias": torch.zeros(())}, "'half' is none"),
    ],
)
def test_terms__that_are_not_the_declared_ones_are_refused(terms: dict, message: str):
    class Other(Halved):
        def forward(self, *_: object) -> dict:
            return terms

    model = NextConceptModel(small_config())
    tokens, mask = batch_of()
    with pytest.raises(InputError, match=message):
        compute_losses(LossConfig(), model, model(tokens[:, :-1]), tokens, mask, objective=Other(model))


def test_checkpoint__of_a_plain_trainer_goes_on_with_its_objective(tmp_path: Path):
    loader = DataLoader(TensorDataset(torch.randint(64, (8, 33))), batch_size=2)
    for step, path in ((4, None), (8, tmp_path / "end.ckpt")):
        trainer = trainer_of(tmp_path, step, limit_val_batches=0)
        trainer.fit(ConceptModule(small_config(), objective=Halved), loader, loader, ckpt_path=path, weights_only=True)
        trainer.save_checkpoint(tmp_path / "end.ckpt")
    loaded = ConceptModule.load_from_checkpoint(tmp_path / "end.ckpt", objective=Halved)
    assert torch.equal(loaded.objective.bias, trainer.lightning_module.objective.bias)
    with pytest.raises(InputError, match="trained with the objective .*Halved, not next-token prediction"):
        ConceptModule.load_from_checkpoint(tmp_path / "end.ckpt", strict=False)
