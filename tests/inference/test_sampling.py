import pytest
import torch

from nextconcept import InputError
from nextconcept.inference.sampling import Draws, Sampling, make_generator, sample

CPU = torch.device("cpu")


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.1}])
@pytest.mark.parametrize("temperature", [1e-40, 1e-300, 5e-324])
def test_sample__a_temperature_close_to_zero_takes_the_likeliest(temperature: float, options: dict):
    logits = torch.randn(5, 64) * 20
    assert torch.equal(sample(logits, Sampling(temperature, **options), None), logits.argmax(-1))


@pytest.mark.parametrize("top_p", [1e-46, 5e-324])
def test_sample__a_top_p_close_to_zero_takes_the_likeliest(top_p: float):
    logits = torch.randn(5, 64)
    assert torch.equal(sample(logits, Sampling(1.0, top_p=top_p), None), logits.argmax(-1))


def test_sample__draws_by_probability():
    logits = torch.tensor([[0.0, 1.0, -torch.inf]]).expand(20_000, 3)
    drawn = sample(logits, Sampling(0.5), make_generator(0, CPU))
    assert drawn.bincount(minlength=3)[2] == 0
    assert (drawn == 1).double().mean().item() == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=0.01)


EVEN, FALLING = [0.25] * 4, [0.5, 0.25, 0.15, 0.1]


@pytest.mark.parametrize(
    ("probabilities", "options", "kept"),
    [
        (FALLING, {}, 4),
        (FALLING, {"top_k": 1}, 1),
        (FALLING, {"top_k": 3}, 3),
        (FALLING, {"top_p": 0.7}, 2),
        (FALLING, {"top_p": 0.8}, 3),
        (EVEN, {"top_k": 1}, 1),
        (EVEN, {"top_k": 3}, 3),
        (EVEN, {"top_p": 0.5}, 2),  # two reach it
        (EVEN, {"top_p": 1.0}, 4),
        (FALLING, {"min_p": 0.4}, 2),  # of the likeliest, which has 0.5
        (EVEN, {"min_p": 1.0}, 4),
        (FALLING, {"top_k": 3, "top_p": 0.8}, 2),  # of what top_k keeps, 0.9
    ],
)
def test_sample__draws_what_is_kept(probabilities: list[float], options: dict, kept: int):
    uniform = torch.arange(200) / 200  # from 0 to below 1
    logits = torch.tensor([probabilities]).log().expand(200, 4)
    assert len(set(sample(logits, Sampling(**options), uniform=uniform).tolist())) == kept


def test_sample__the_least_random_number_draws_nothing_impossible():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0]])
    assert sample(logits, Sampling(), uniform=torch.zeros(1)).tolist() == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_sample__damaged_logits(value: float):
    with pytest.raises(InputError, match="logits are not numbers"):
        sample(torch.tensor([[0.0, value]]), Sampling(0.0), None)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**70])
def test_make_generator__seed_out_of_range(seed: int):
    with pytest.raises(InputError, match="seed of the sampling must be from 0 to"):
        make_generator(seed, CPU)


def test_make_generator__begins_with_the_seed():
    draws = [torch.rand(3, generator=make_generator(seed, CPU)).tolist() for seed in (0, 0, 2**63 - 1)]
    assert draws[0] == draws[1] != draws[2]


def test_draws__each_place_has_a_random_number_of_its_own():
    """So a draft and the token in its place are the same where their logits are."""
    uniform, first = torch.rand(3, 6), torch.tensor([4, 2, 7])
    draws, logits = Draws(Sampling(), uniform, first), torch.randn(2, 3, 50)
    rows, lengths = torch.tensor([2, 0]), torch.tensor([9, 4])  # after two written tokens, and after none
    drawn = draws.draw(logits, rows, lengths)
    for index, (row, column) in enumerate(((2, 2), (0, 0))):
        for place in range(3):
            alone = sample(logits[index, place][None], Sampling(), uniform=uniform[row, column + place][None])
            assert drawn[index, place] == alone
    later = draws.draw(logits[:, 1:], rows, lengths + 1)
    assert torch.equal(later, drawn[:, 1:])
    assert torch.equal(Draws(Sampling(0.0), None, first).draw(logits, rows, lengths), logits.argmax(-1))
