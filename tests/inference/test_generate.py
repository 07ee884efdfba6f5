import pytest
import torch

from nextconcept import InputError, NextConceptModel, Writer, generate
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.locations import visible_from
from nextconcept.inference.plan_edits import PlanEdit
from nextconcept.inference.sampling import Sampling, sample
from tests.helpers import RULE_TEXT, open_model, rule_grid, small_config


def test_generate__greedy_takes_the_likeliest_token():
    model, tokens = open_model(small_config()), torch.randint(64, (2, 7))
    written = generate(model, tokens, 5, temperature=0)
    assert torch.equal(written[:, :7], tokens)
    for t in range(7, 12):
        assert torch.equal(written[:, t], model(written[:, :t]).logits[:, -1].argmax(-1))


def test_generate__seed_decides():
    model, tokens = open_model(small_config()), torch.randint(64, (1, 3))
    texts = [generate(model, tokens, 20, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_generate__goes_on_beyond_the_context_and_keeps_the_mode():
    model = open_model(small_config(context_length=16)).train()
    assert generate(model, torch.randint(64, (1, 15)), 10).shape == (1, 25)
    assert model.training


def loud_model(**changes: object) -> NextConceptModel:
    """A model with opinions: its logits differ enough for any difference of the states to change
    what is written."""
    model = open_model(small_config(tie_embeddings=False, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter *= 0.5 / parameter.std()
    return model


def written(model: NextConceptModel, use_cache: bool, count: int, **options: object) -> torch.Tensor:
    """A batch of prompts of 9, 4 and 1 tokens, continued."""
    prompts, lengths = torch.randint(64, (3, 9), generator=torch.Generator().manual_seed(5)), torch.tensor([9, 4, 1])
    generator = torch.Generator().manual_seed(0)
    return generate(model, prompts, count, generator=generator, use_cache=use_cache, lengths=lengths, **options)


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 1},
        {},
        {"levels": 3, "encoder__chunk_alignment": "end"},
        {"reader__plan_conditioning": "prefix", "planner__mode": "rollout"},
        {"num_loops": [2, 3]},
    ],
    ids=str,
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generate__cached_equals_uncached(changes: dict, temperature: float):
    model = loud_model(**changes, context_length=32)
    cached = written(model, True, 45, temperature=temperature)
    assert torch.equal(cached, written(model, False, 45, temperature=temperature))
    assert not torch.equal(
        cached, written(loud_model(**changes, context_length=32, sliding_window=4), True, 45, temperature=temperature)
    )


def test_generate__rows_of_a_batch_are_written_as_if_alone():
    model = loud_model(levels=3, context_length=32)
    prompts = torch.randint(64, (3, 9))
    together = generate(model, prompts, 40, temperature=0, lengths=torch.tensor([9, 4, 1]))
    for row, length in enumerate((9, 4, 1)):
        alone = generate(model, prompts[row : row + 1, :length], 40, temperature=0)
        assert torch.equal(together[row, : length + 40], alone[0])
        assert not together[row, length + 40 :].any()


@pytest.mark.parametrize("use_cache", [True, False])
def test_generate__an_edited_plan_is_read_until_it_is_written(use_cache: bool):
    model = open_model(small_config(levels=2, reader__memory="none", chunk_size=4))
    concept = model.compose(torch.tensor([[1, 2, 3, 4]]))[0]
    read = []
    handle = model.encoder.compositions[0].norm
    model.encoder.compositions[0].norm = lambda plan: (read.append(plan), handle(plan))[1]
    generate(model, torch.randint(64, (1, 6)), 12, temperature=0, use_cache=use_cache, edits=[PlanEdit(1, 2, concept)])
    # The prompt ends in chunk 1, so the edit is about chunk 3: read at anchors 1, 2 and 3, at steps
    # 2, 1 and 0.
    plans = [plan.flatten(0, -3)[-1] if plan.dim() > 2 else plan for plan in read]
    found = {tuple((plan == concept).all(-1).nonzero().flatten().tolist()) for plan in plans}
    assert found == {(2,), (1,), (0,), ()}


def test_generate__edits_are_the_same_with_and_without_cache():
    model = loud_model(levels=3, planner__mode="rollout", chunk_size=2)
    edits = [
        PlanEdit(1, 1, model.compose(torch.tensor([[1, 2]]))[0]),
        PlanEdit(2, 1, model.compose(torch.tensor([[1, 2, 3, 4]]), 2)[0]),
    ]
    cached = written(model, True, 20, edits=edits)
    assert torch.equal(cached, written(model, False, 20, edits=edits))
    assert not torch.equal(cached, written(model, True, 20))


def test_generate__edits_may_differ_by_row():
    model = loud_model(levels=2)
    prompts, concepts = torch.randint(64, (2, 9)), model.compose(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]))
    together = generate(model, prompts, 9, temperature=0, edits=[PlanEdit(1, 1, concepts)])
    for row in range(2):
        alone = generate(model, prompts[row : row + 1], 9, temperature=0, edits=[PlanEdit(1, 1, concepts[row])])
        assert torch.equal(together[row], alone[0])


def test_generate__leaves_a_compiled_forward_alone():
    model = open_model(small_config())

    def backend(*_: object) -> None:
        raise AssertionError("compiled")

    model.compile(backend=backend)
    assert generate(model, torch.randint(64, (1, 5)), 3).shape == (1, 8)


def test_visible_from__drops_whole_chunks_and_half_of_the_context_at_once():
    lengths = torch.arange(1, 60)
    starts = visible_from(lengths, 16, Hierarchy(3, 2))
    assert not (starts % 4).any()
    assert not starts[:16].any()
    assert ((lengths - starts)[16:] > 8).all()
    assert (lengths - starts).max() == 16
    assert len(starts.unique()) == 7


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"min_p": 0.5}, {0, 1}),
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.4}, {0}),
        ({"top_k": 99}, {0, 1, 2, 3}),
    ],
    ids=str,
)
def test_sample__keeps_what_is_likely(options: dict, allowed: set):
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(500, 4)
    drawn = sample(logits, Sampling(**options), torch.Generator().manual_seed(0))
    assert set(drawn.flatten().tolist()) == allowed


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (torch.zeros(1, 0, dtype=torch.long), {}, "at least one token"),
        (torch.tensor([[3, 64]]), {}, "token id 64 of the prompt is outside the vocabulary of 64"),
        (torch.tensor([[-1]]), {}, "token id -1"),
        (torch.zeros(1, 2), {}, "int64"),
        (torch.tensor([[1]]), {"temperature": -1.0}, "temperature must be 0 or more and finite, not -1.0"),
        (torch.tensor([[1]]), {"top_k": 0}, "top_k must be 1 or more"),
        (torch.tensor([[1]]), {"top_p": 1.5}, "top_p must be above 0"),
        (torch.tensor([[1]]), {"min_p": 0.0}, "min_p must be above 0"),
        (torch.tensor([[1]]), {"lengths": torch.tensor([2])}, "lengths must be one number from 1 to 1"),
        (torch.tensor([[1]]), {"lengths": torch.tensor([1.0])}, "lengths must be a tensor of int64, not torch.float32"),
        (torch.tensor([[1]]), {"lengths": [1]}, "lengths must be a tensor of int64, not list"),
        (torch.tensor([[1]]), {"top_k": 2.5}, "top_k can't be 2.5"),
        (torch.tensor([[1]]), {"temperature": "hot"}, "temperature can't be 'hot'"),
        (torch.tensor([[1]]), {"max_new_tokens": 2.5}, "max_new_tokens must be 0 to .*, not 2.5"),
        (torch.tensor([[1]]), {"max_new_tokens": True}, "max_new_tokens must be 0 to .*, not True"),
        (
            torch.tensor([[1]]),
            {"edits": [PlanEdit(2, 0, torch.zeros(32))]},
            "no concept level 2: those are 1",
        ),
        (torch.tensor([[1]]), {"edits": [PlanEdit(1, 3, torch.zeros(32))]}, "steps 0 to 2, not 3"),
        (torch.tensor([[1]]), {"edits": [PlanEdit(1, 0.5, torch.zeros(32))]}, "steps 0 to 2, not 0.5"),
        (torch.tensor([[1]]), {"edits": [PlanEdit(1, 0, None)]}, "a tensor of finite numbers"),
        (torch.tensor([[1]]), {"edits": [PlanEdit(1, 0, torch.full((32,), torch.nan))]}, "a tensor of finite numbers"),
        (torch.tensor([[1]]), {"edits": [PlanEdit(1, 0, torch.zeros(16))]}, "a concept of level 1 has shape"),
        (torch.tensor([[1]]), {"edits": PlanEdit(1, 3, torch.zeros(32))}, "steps 0 to 2, not 3"),
        (torch.tensor([[1]]), {"edits": "1:0=cafe"}, "an edit of a plan is a PlanEdit here, not '1:0=cafe'"),
        (
            torch.tensor([[1]]),
            {"edits": [PlanEdit(1, 2, torch.zeros(32)), PlanEdit(1, 2, torch.ones(32))]},
            "several edits change step 2 of the plan of level 1: give one",
        ),
    ],
)
def test_generate__bad_input(tokens: torch.Tensor, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        generate(NextConceptModel(small_config()), tokens, **{"max_new_tokens": 2} | options)


def test_generate__one_edit_without_a_list():
    model, prompt = loud_model(), torch.tensor([[1, 2, 3]])
    edit = PlanEdit(1, 0, torch.randn(model.config.widths[1]))
    texts = [generate(model, prompt, 12, 0.0, edits=edits) for edits in (edit, [edit])]
    assert torch.equal(*texts)


def test_generate__a_model_that_torch_compile_wraps():
    model, prompt = loud_model(), torch.tensor([[1, 2, 3]])
    wrapped = torch.compile(model, backend="eager")
    assert torch.equal(generate(wrapped, prompt, 9, 0.0), generate(model, prompt, 9, 0.0))


def test_generate__a_writer_is_no_model():
    writer = Writer(NextConceptModel(small_config()), ByteTokenizer())
    with pytest.raises(InputError, match="generate takes a NextConceptModel, not Writer: of what load returns, .* its"):
        generate(writer, torch.tensor([[1]]), 2)


@pytest.mark.parametrize(
    "index",
    [*(pytest.param(index, marks=[pytest.mark.slow] * (index % 24 > 0)) for index in range(0, 120, 6)), 120],
)
def test_generate__cached_equals_uncached_where_rules_cut_chunks(index: int):
    """Rows end chunks at different times, prompts differ in length, texts outgrow the context."""
    options, edited = rule_grid()[index], index % 4 == 0
    model = loud_model(**options | {"context_length": 48})
    text, lengths = list(RULE_TEXT), torch.tensor([40, 17, 1])
    prompts = torch.tensor([text[:40], text[::-1][:40], text[20:60]])
    level = options["levels"] - 1
    edits = [PlanEdit(one, 0, torch.randn(model.config.widths[one])) for one in sorted({1, level})]
    texts = [
        generate(model, prompts, 33, 0.0, lengths=lengths, use_cache=use_cache, edits=edits if edited else None)
        for use_cache in (True, False)
    ]
    assert torch.equal(*texts)
