import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.initial_weights import column_scale, draw
from nextconcept.training.losses import LossConfig, compute_losses

SHAPES = list(itertools.product((64, 128, 256, 512), (2, 8)))


def test_column_scale__follows_the_narrowest_level_that_reads_a_column():
    torch.testing.assert_close(column_scale(4, [1, 4]), torch.tensor([1.0, 0.5, 0.5, 0.5]))
    torch.testing.assert_close(column_scale(4, []), torch.full((4,), 0.5))


def test_draw__a_level_is_drawn_alike_with_and_without_levels_above():
    weight = torch.nn.Parameter(torch.empty(500, 512))
    draw(weight, [64, 128, 256, 512], factor=0.5)
    outputs = [weight[:, :width] @ torch.randn(width, 200) for width in (64, 128, 256, 512)]
    # Each level above adds columns whose sum has half the variance of a matrix of its own.
    assert [one.std().item() for one in outputs] == pytest.approx(
        [0.5 * (1 + level / 2) ** 0.5 for level in range(4)], rel=0.05
    )


def scales(**changes: object) -> dict[str, float]:
    """Sizes at step 0 of logits, plans and loss, and of activations and gradients of the tokens.

    Gradients of the concept loss are left out: those of a cosine shrink with the plan's length.
    """
    torch.manual_seed(0)
    options: dict[str, Any] = {"context_length": 64, "num_heads": 2} | changes
    model, tokens = NextConceptModel(ModelConfig(**options)), torch.randint(256, (4, 65))
    found: dict[str, float] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
            # With common weights the tokens run last, so that their gradients come first.
            found[f"{name} activations"] = output.detach().square().mean().sqrt().item()
            output.register_hook(
                lambda gradient: found.setdefault(f"{name} gradients", gradient.norm().item()) and None
            )

        return hook

    blocks = model.transformer(0).blocks
    for name, block in {"first block": blocks[0], "last block": blocks[-1]}.items():
        block.register_forward_hook(watch(name))
    output = model(tokens[:, :-1])
    losses = compute_losses(LossConfig(), model, output, tokens, torch.ones_like(tokens, dtype=torch.bool), {})
    losses.total.backward()
    sizes = {"logits": output.logits} | {f"plan {level}": plan for level, plan in output.plans.items()}
    found |= {name: tensor.detach().square().mean().sqrt().item() for name, tensor in sizes.items()}
    return found | {"loss": losses.tokens.item()}


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 1},
        pytest.param({"levels": 2, "sharing": "separate"}, marks=pytest.mark.slow),
        {"levels": 2, "sharing": "separate", "encoder": {"depth": 1}},
    ],
    ids=str,
)
def test_initial_weights__scales_do_not_depend_on_width_and_depth(changes: dict):
    measured = [scales(width=width, depth=depth, **changes) for width, depth in SHAPES]
    for name in measured[0]:
        values = [one[name] for one in measured]
        assert max(values) < 1.6 * min(values), (name, values)
    assert all(0.5 < one["first block activations"] < 2 and 0.7 < one["logits"] < 1.4 for one in measured)


def test_initial_weights__scales_of_nested_levels_depend_on_width_little():
    measured = [scales(width=width, depth=2, levels=3, num_heads=8) for width in (256, 512, 1024)]
    for name in measured[0]:
        values = [one[name] for one in measured]
        assert max(values) < 1.6 * min(values), (name, values)


@pytest.mark.parametrize("composition", ["linear", "mlp", "mlp->sum->mlp->norm", "geglu->sum->geglu->norm"])
@pytest.mark.parametrize("sharing", ["nested", "separate"])
def test_initial_weights__compositions_do_not_vanish(composition: str, sharing: str):
    """A norm follows, which makes large numbers small, but nothing of those below its epsilon."""
    torch.manual_seed(0)
    encoder = {"composition": composition}
    model = NextConceptModel(
        ModelConfig(levels=4, chunk_size=2, width=256, num_heads=8, sharing=sharing, encoder=encoder)
    )
    raw = []
    for composed in model.encoder.compositions:
        composed.norm = lambda x: (
            raw.append(x.square().mean().sqrt().item()) or torch.nn.functional.rms_norm(x, x.shape[-1:])
        )
    model.encoder(torch.randint(256, (4, 64)))
    assert len(raw) == 6  # one per level and level below it
    assert all(0.1 < size < 1e3 for size in raw), raw


def test_initial_weights__a_map_of_all_elements_counts_those_of_a_mean_chunk():
    rule = {"rule": "words", "max_length": 16, "mean_length": 4.0}
    config = ModelConfig(levels=2, chunking=[rule], sharing="separate", width=64, encoder={"composition": "linear"})
    weight = ConceptEncoder(config).composition(1).maps["0"].weight
    assert weight.shape == (16, 64, 64)
    assert weight.std().item() == pytest.approx((4 * 64) ** -0.5, rel=0.02)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize(
    "reader", [{"plan_conditioning": "unbind"}, {"memory": "anchor"}, {"memory": "states"}], ids=str
)
def test_initial_weights__readers_write_as_little_as_other_parts_where_no_gate_holds_them(reader: dict, gated: bool):
    config = ModelConfig(levels=2, width=256, depth=8, sharing="separate", reader={"gated": gated} | reader)
    block = NextConceptModel(config).transformer(0).blocks[0]
    parts = (block.plan_attention, block.plan_unbinding, block.memory_attention, block.anchor_reading)
    written = [
        part.value if hasattr(part, "value") and not hasattr(part, "out") else part.out for part in parts if part
    ]
    for matrix in written:
        assert matrix.weight.std().item() * 16 == pytest.approx(1.0 if gated else 0.25, rel=0.05)


def test_initial_weights__the_test_can_fail():
    """As weights of one standard deviation do, whatever the width."""

    def fixed(model: NextConceptModel) -> float:
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                torch.nn.init.normal_(parameter, std=0.02)
        return model(torch.randint(256, (4, 64))).logits.std().item()

    narrow, wide = (fixed(NextConceptModel(ModelConfig(levels=1, width=width, num_heads=2))) for width in (64, 512))
    assert wide > 2 * narrow
