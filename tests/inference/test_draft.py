"""A draft changes nothing but the time."""

import itertools

import pytest
import torch

from nextconcept import InputError, NextConceptModel, generate
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.inference.draft_acceptance import DraftFigures
from nextconcept.inference.draft_length import SOURCES, DraftLength
from nextconcept.inference.drafts import DraftingGenerator
from nextconcept.inference.generate import generate_tokens
from nextconcept.inference.generators import CachedGenerator, UncachedGenerator
from nextconcept.inference.locations import Location, visible_from
from nextconcept.inference.plan_drafts import PlanDrafts
from nextconcept.inference.plan_edits import PlanEdit
from nextconcept.inference.ring_cache import AnchorStore
from nextconcept.inference.sampling import Draws, Sampling
from nextconcept.inference.text_drafts import MATCHED, TextDrafts
from nextconcept.nn.concept_encoder import PADDING
from nextconcept.nn.draft_head import tokens_before
from tests.helpers import GRID, open_model, rule_grid, small_config

SYMBOLS = [b"a", b" ", b".\n"]
LENGTHS = torch.tensor([9, 4, 1])


def model_of(**changes: object) -> NextConceptModel:
    """A model with opinions about three symbols, so few that a part of all drafts is right."""
    model = open_model(small_config(**{"vocab_size": len(SYMBOLS), "tie_embeddings": False} | changes))
    if model.chunker is not None:
        model.chunker.read_as(SYMBOLS)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                if parameter.std() == 0:  # of the draft head
                    parameter.normal_()
                parameter *= 0.5 / parameter.std()
    return model


def reader_of_plans(**changes: object) -> NextConceptModel:
    """A model that writes what it plans: its logits are those of the plan, unbound."""
    changes = {"width": 64, "vocab_size": 20, "reader__plan_conditioning": "unbind", "reader__memory": "none"} | changes
    model = model_of(sharing="separate", norm_embeddings=True, tie_embeddings=True, **{"levels": 2} | changes)
    width = model.config.widths[0]
    with torch.no_grad():
        for name, parameter in model.transformers[0].named_parameters():
            parameter *= 0 if name.endswith(("out.weight", "down.weight")) else 1
            if name.endswith("plan_unbinding.value.weight"):
                parameter.copy_(100 * torch.eye(width, model.config.widths[1]))
        model.decoder.gates.plan.fill_(1.0)
    return model


def prompts_of(model: NextConceptModel) -> torch.Tensor:
    return torch.randint(model.config.vocab_size, (3, 9), generator=torch.Generator().manual_seed(5))


def written(model: NextConceptModel, draft: str | None, count: int, temperature: float, **options: object) -> tuple:
    """Prompts of 9, 4 and 1 tokens, continued, and the figures."""
    figures, generator = DraftFigures(), torch.Generator().manual_seed(0)
    writing = generate_tokens(
        model,
        prompts_of(model),
        count,
        Sampling(temperature),
        generator,
        lengths=LENGTHS,
        draft=draft,
        figures=figures,
        **options,
    )
    return torch.stack(list(writing), 1), figures


CHANGES = [
    {},
    {"levels": 3, "encoder__chunk_alignment": "end", "planner__draft_width": 8},
    {"reader__memory": "none", "sliding_window": 5, "encoder__depth": 1, "planner__end_state": True},
    {"reader__plan_conditioning": "prefix", "planner__mode": "rollout", "block__num_kv_heads": 2},
    {"reader__plan_conditioning": "unbind", "chunk_size": 2, "horizon": 1, "sliding_window": 3},
    {"levels": 3, "chunk_size": 2, "horizon": "full", "nested__slicing": "head_size", "num_loops": [2, 1, 1]},
    {"chunking": ["words"], "horizon": 2, "planner__draft_width": 8},
    {"levels": 3, "chunking": ["words", "sentences"], "reader__plan_conditioning": "unbind", "encoder__depth": 1},
    {"levels": 3, "chunking": [{"ends": " ", "max_length": 5, "mean_length": 3}, 2], "sliding_window": 4},
    {"chunking": ["words"], "encoder__depth": 1, "reader__memory": "anchor", "reader__pointers": 2},
    {"levels": 3, "chunk_size": 2, "reader__plan_conditioning": "unbind", "reader__pointers": 3},
]


@pytest.fixture
def always_drafted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draft in each pass, whether it pays or not."""
    monkeypatch.setattr("nextconcept.inference.draft_length.MARGIN", 0.0)


DRAFTING = [
    options
    for options in [*GRID, *(rules | {"vocab_size": 3, "context_length": 48} for rules in rule_grid())]
    if options["levels"] > 1 and (config := small_config(**options).encoder).additive and config.position_binding
]
"""Configurations of models that can draft."""


@pytest.mark.usefixtures("always_drafted")
@pytest.mark.parametrize(
    ("changes", "temperature"),
    [
        *(
            pytest.param(changes, temperature, marks=[pytest.mark.slow] * (index % 4 > 1))
            for index, (changes, temperature) in enumerate(zip(CHANGES, itertools.cycle([0.0, 1.0])))
        ),
        (CHANGES[0], 1.0),
    ],
    ids=str,
)
def test_generate__drafted_equals_plain(changes: dict, temperature: float):
    """Prompts of different lengths, and texts that outgrow the context."""
    model = model_of(**{"context_length": 32} | changes)
    plain, figures = written(model, None, 36, temperature)
    assert figures.tokens_per_pass == 1
    assert not torch.stack(figures.was_drafted).any()
    for source in SOURCES:
        drafted, figures = written(model, source, 36, temperature)
        assert torch.equal(drafted, plain)
        assert figures.tokens == 3 * 36
        assert torch.stack(figures.was_drafted).sum() == figures.accepted
        assert 0 < figures.accepted < figures.drafted


@pytest.mark.slow
@pytest.mark.usefixtures("always_drafted")
@pytest.mark.parametrize("index", range(16))
def test_generate__drafted_equals_plain_with_any_options(index: int):
    model = model_of(**DRAFTING[index * len(DRAFTING) // 16])
    edits = [PlanEdit(1, 0, torch.randn(model.config.widths[1]))] if index % 2 else None
    plain, _ = written(model, None, 30, 1.0, edits=edits)
    for source in SOURCES:
        assert torch.equal(written(model, source, 30, 1.0, edits=edits)[0], plain)


def test_generate__drafts_come_and_go():
    """A model whose drafts are right at times is drafted at times, and writes the same."""
    model = model_of(vocab_size=2, context_length=64)
    prompt, figures = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0]]), DraftFigures()
    options = {"lengths": torch.tensor([4, 3]), "generator": torch.Generator().manual_seed(1)}
    plain = generate(model, prompt, 90, **options)
    options["generator"].manual_seed(1)
    assert torch.equal(generate(model, prompt, 90, draft="plan", figures=figures, **options), plain)
    assert 0 < figures.accepted < figures.drafted
    assert figures.drafted < 0.8 * figures.passes * DraftLength(model.config).longest


@pytest.mark.parametrize("changes", [{}, {"sliding_window": 3, "chunk_size": 3}, {"levels": 3}], ids=str)
def test_generate__a_model_that_writes_its_plan_takes_a_pass_per_chunk(changes: dict):
    model = reader_of_plans(**{"horizon": 1} | changes)
    prompt = torch.randint(20, (1, 2 * model.config.chunk_size + 1))
    figures, chunk = DraftFigures(), model.config.chunk_size
    drafted = torch.cat(list(generate_tokens(model, prompt, 10 * chunk, Sampling(0.0), draft="plan", figures=figures)))
    assert torch.equal(drafted, generate(model, prompt, 10 * chunk, 0.0)[0, prompt.shape[1] :])
    # The prompt's own pass writes one token, and the next one ends the chunk.
    assert figures.passes <= 12
    assert figures.accepted >= figures.drafted - chunk


@pytest.mark.parametrize("changes", [{}, {"sliding_window": 3, "chunk_size": 3}, {"levels": 3}], ids=str)
def test_generate__a_plan_of_several_chunks_is_written_in_one_pass(changes: dict):
    model = reader_of_plans(**changes)
    chunk, horizon = model.config.chunk_size, model.config.horizon_of(1)
    planned = torch.randint(20, (24, chunk))
    concepts = model.compose(planned)

    def hook(level: int, plan: torch.Tensor, anchors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return concepts[anchors[..., None] + torch.arange(plan.shape[2])] if level == 1 else plan

    figures, count = DraftFigures(), 3 * horizon * chunk + 1
    text = generate(model, planned[None, :2].flatten(1), count, 0.0, draft="plan", figures=figures, hook=hook)
    assert torch.equal(text[0], planned.flatten()[: 2 * chunk + count])
    assert figures.passes == 4  # that of the prompt, which writes a token, and one for each plan
    assert figures.accepted == figures.drafted
    assert torch.equal(torch.cat(figures.was_drafted), torch.arange(count) % (horizon * chunk) != 0)


class Ending(DraftLength):
    """Drafts four tokens in the first passes, and none afterwards."""

    left = 3

    def pays(self, rows: int) -> bool:
        return self.left > 0

    def best(self, rows: int, place: int = 0) -> int:
        return 4 * self.pays(rows)

    def update(
        self, rows: torch.Tensor, accepted: torch.Tensor, counts: torch.Tensor, *_: object, **__: object
    ) -> None:
        self.left -= int(counts.any())


@pytest.mark.parametrize("left", [1, 3])
def test_generate__rows_get_level_where_drafts_do_not_pay(monkeypatch: pytest.MonkeyPatch, left: int):
    """Then all of them take a token in each pass, as without drafts."""
    monkeypatch.setattr("nextconcept.inference.drafts.DraftLength", Ending)
    monkeypatch.setattr(Ending, "left", left)
    model, passes, plain = model_of(vocab_size=3), [], CachedGenerator.__call__

    def watched(self: CachedGenerator, ids: torch.Tensor, *places: torch.Tensor) -> torch.Tensor:
        passes.append(len(ids))
        return plain(self, ids, *places)

    monkeypatch.setattr(CachedGenerator, "__call__", watched)
    ids, figures = torch.randint(3, (6, 5)), DraftFigures()
    generator = torch.Generator().manual_seed(0)
    assert len(list(generate_tokens(model, ids, 40, Sampling(1.0), generator, draft="plan", figures=figures))) == 40
    assert figures.drafted > 0
    assert (figures.accepted > 0) == (left > 1)  # then they stood apart for a while
    assert len(passes) > 20


class Watching(DraftLength):
    """Drafts nothing, and would always compare."""

    compared = 0

    def pays(self, rows: int) -> bool:
        return False

    def skip(self) -> bool:
        return True

    def update(self, *figures: torch.Tensor, compared: bool = False) -> None:
        type(self).compared += compared


def test_generate__a_comparison_ends_before_the_next_one_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nextconcept.inference.drafts.DraftLength", Watching)
    monkeypatch.setattr(Watching, "compared", 0)
    model = model_of()
    generate(model, torch.randint(3, (2, 5)), 40, draft="plan")
    longest = DraftLength(model.config).longest
    assert longest > 4
    assert Watching.compared == 39 // longest


def test_generate__drafts_follow_an_edited_plan():
    model = reader_of_plans()
    prompt, chunk = torch.randint(20, (1, 8)), torch.tensor([3, 1, 4, 15])
    edits = [PlanEdit(1, 0, model.compose(chunk))]
    texts = [generate(model, prompt, 12, 0.0, edits=edits, draft=draft) for draft in ("plan", None)]
    assert torch.equal(*texts)
    assert torch.equal(texts[0][0, 8:12], chunk)


def test_generate__rows_are_drafted_as_if_alone():
    model = model_of(context_length=32)
    prompts = prompts_of(model)
    together = generate(model, prompts, 40, 0.0, lengths=LENGTHS, draft="plan")
    for row, length in enumerate(LENGTHS.tolist()):
        alone = generate(model, prompts[row : row + 1, :length], 40, 0.0, draft="plan")
        assert torch.equal(together[row, : length + 40], alone[0])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_generate__few_tokens(count: int):
    model = model_of()
    texts = [generate(model, prompts_of(model), count, 0.0, draft=draft) for draft in ("plan", None)]
    assert torch.equal(*texts)


def test_generate__drafted_texts_have_the_distribution_of_the_model(monkeypatch: pytest.MonkeyPatch):
    """Chi-square of all texts of four tokens, whose probabilities the model gives."""
    for price in ("BALANCE", "UNEQUAL"):  # so many rows are not drafted otherwise
        monkeypatch.setattr(f"nextconcept.inference.draft_length.{price}", 1e9)
    model, rows, count = model_of(reader__memory="none"), 5_000, 4
    model.decoder.head.weight.data *= 0.3  # no text is impossible
    prompt = torch.tensor([[0, 1, 2, 0, 1]])
    texts = torch.tensor(list(itertools.product(range(3), repeat=count)))
    with torch.no_grad():
        logits = model(torch.cat((prompt.expand(len(texts), -1), texts), 1)).logits[:, 4:-1]
    chances = logits.log_softmax(-1).gather(2, texts[..., None])[..., 0].sum(1).exp().double()
    figures = DraftFigures()
    writing = generate_tokens(
        model,
        prompt.expand(rows, -1),
        count,
        Sampling(),
        torch.Generator().manual_seed(0),
        draft="plan",
        figures=figures,
    )
    code = (torch.stack(list(writing), 1) * torch.tensor([27, 9, 3, 1])).sum(1)
    assert 0.1 < figures.accepted / figures.drafted < 0.9
    expected, found = rows * chances / chances.sum(), code.bincount(minlength=81).double()
    common = expected >= 5
    terms = (found - expected)[common].square() / expected[common]
    # Of a chi-square distribution with k degrees of freedom: mean k, variance 2 k.
    degrees = int(common.sum()) - 1
    assert degrees > 20
    assert float(terms.sum()) < degrees + 4 * (2 * degrees) ** 0.5


@torch.no_grad()
def compare_logits(model: NextConceptModel, passes: int = 8, draft: str = "plan") -> tuple[float, int]:
    """Greatest difference between logits of drafting and of the whole model, and their number."""
    model, context = model.double(), model.config.window_length
    lengths = LENGTHS + torch.tensor([model.config.padding(length) for length in LENGTHS.tolist()])
    ids = torch.randint(model.config.vocab_size, (3, 200), generator=torch.Generator().manual_seed(2))
    ids[torch.arange(200) < (lengths - LENGTHS)[:, None]] = PADDING
    drafting = DraftingGenerator(model, 3, context, Draws(Sampling(0.0), None, lengths), draft=draft)
    plain = UncachedGenerator(model)
    worst, compared = 0.0, 0
    for _ in range(passes):
        starts = visible_from(lengths, context, model.config.hierarchy)
        advanced = lengths.clone()
        for one in drafting.passes(ids, starts, lengths, torch.full((3,), 50)):
            for ahead in sorted({0, one.width // 3, one.width // 2, one.width - 1}):
                there = one.counts >= ahead
                rows, then = one.rows[there], lengths + ahead
                if len(rows) == 0:
                    continue
                tried = ids.clone()
                for row, draft in zip(one.rows.tolist(), one.drafts, strict=True):
                    tried[row, lengths[row] : lengths[row] + ahead] = draft[:ahead]
                expected = plain(tried[rows], starts[rows], then[rows])
                worst = max(worst, float((one.logits[there, ahead] - expected).abs().max()))
                compared += int(there.sum()) * (ahead > 0)
            # Some drafts are taken: all, none, one or some, by turns.
            for row, draft, count in zip(one.rows.tolist(), one.drafts, one.counts.tolist(), strict=True):
                taken = min(count, (20, 0, 1, 20, 5)[(row + int(lengths[row])) % 5])
                ids[row, lengths[row] : lengths[row] + taken] = draft[:taken]
                ids[row, lengths[row] + taken] = (row + int(lengths[row])) % 3
                advanced[row] += taken + 1
        lengths = advanced
    return worst, compared


@pytest.mark.parametrize("changes", CHANGES[1:8:2], ids=str)
def test_drafting_generator__logits_are_those_of_the_whole_model(changes: dict):
    """At accepted and rejected drafts alike, to double precision."""
    worst, compared = compare_logits(model_of(**{"context_length": 32} | changes))
    assert worst < 1e-9
    assert compared > 20


@pytest.mark.usefixtures("always_drafted")
@pytest.mark.parametrize("changes", [{"levels": 1}, CHANGES[1], CHANGES[6], CHANGES[9]], ids=str)
def test_drafting_generator__logits_behind_copied_tokens_are_those_of_the_whole_model(changes: dict):
    worst, compared = compare_logits(model_of(**{"context_length": 48} | changes), 16, "text")
    assert worst < 1e-9
    assert compared > 20


@pytest.mark.usefixtures("always_drafted")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generate__a_gpt_copies_too(temperature: float):
    model = model_of(levels=1, context_length=32, sliding_window=6)
    plain, _ = written(model, None, 60, temperature)
    drafted, figures = written(model, "text", 60, temperature)
    assert torch.equal(drafted, plain)
    assert 0 < figures.accepted < figures.drafted


def test_text_drafts__copy_what_followed_the_longest_match():
    drafts = TextDrafts()

    def drafted(text: list[int], count: int = 3, spare: int = 2) -> list[int]:
        # Another row, and what stands after a text, change nothing.
        ids = torch.tensor([text + [7] * spare, [7] * (len(text) + spare)])
        at = Location(Hierarchy(1, 4), ids, torch.zeros(2).long(), torch.tensor([len(text), 1]))
        tokens, inside = drafts.read(at, count)
        assert inside[0].long().diff().le(0).all()
        assert not inside[1].any()
        return tokens[0, inside[0]].tolist()

    assert drafted([1, 2, 3, 4, 9, 2, 3, 5, 8, 8, 9, 2, 3]) == [5, 8, 8]  # after "9 2 3", not "2 3"
    assert drafted([2, 3, 4, 1, 6, 2, 3, 5, 8, 8, 2, 3]) == [5, 8, 8]  # the latest of equal ones
    assert drafted([2, 3, 4, 1, 6, 2, 3, 5, 2, 3]) == [5, 2, 3]  # with three tokens after it
    assert drafted([2, 3, 4, 1, 6, 2, 3, 5, 2, 3], 4) == [4, 1, 6, 2]  # with four
    assert drafted([2, 3, 5, 2, 3], 9) == [5, 2, 3]  # none after the text
    assert drafted([1, 2, 3, 4, 5, 3]) == []  # one equal token is too few
    assert drafted([1]) == []
    assert drafted([5, 5], 2) == []
    long = [*range(2, 2 + MATCHED), 11, 12]
    assert drafted([1, *long, 0, *long, 9, 3, *long[:MATCHED]], 2) == [11, 12]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(16))
def test_drafting_generator__logits_are_those_of_the_whole_model_with_any_options(index: int):
    changes = DRAFTING[(2 * index + 1) * len(DRAFTING) // 32]
    model = open_model(small_config(**changes))
    if model.chunker is not None:
        model.chunker.read_as([bytes([32 + token]) for token in range(model.config.vocab_size)])
    worst, compared = compare_logits(model, 5)
    assert worst < 1e-9
    assert compared > 0


@pytest.mark.parametrize("chunking", [None, ["words"]])
def test_drafting_generator__drafts_the_likeliest_tokens_of_the_plan(chunking: list | None):
    model = open_model(small_config(chunking=chunking, vocab_size=64))
    torch.nn.init.normal_(model.encoder.token_prior, std=4.0)
    plan, places = torch.randn(5, model.config.horizon_of(1), model.config.widths[1]), torch.arange(4).expand(5, 4)
    likeliest = model.decode_plan(plan[:, None], top_k=1)[:, 0, 0, :4, 0]
    drafts = PlanDrafts(model, Draws(Sampling(0.0), None, torch.ones(5)), AnchorStore(5, 1))
    ids, rows = torch.zeros(5, 16, dtype=torch.long), torch.arange(5)
    assert torch.equal(drafts.tokens(plan, places, ids, torch.ones(5).long(), rows), likeliest)


@pytest.mark.parametrize("chunking", [None, ["words"]])
def test_drafting_generator__the_draft_head_reads_one_token_after_the_other(chunking: list | None):
    """What it drafts is what the head says of the whole text, as in training."""
    model = open_model(small_config(chunking=chunking, vocab_size=64, planner__draft_width=16))
    for weight in (model.draft_head.out.weight, model.draft_head.out.bias):
        torch.nn.init.normal_(weight, std=0.2)
    lengths, rows = torch.tensor([9, 4, 1]), torch.arange(3)
    ids, places = torch.randint(64, (3, 20)), torch.arange(4).expand(3, 4)
    plan = torch.randn(3, model.config.horizon_of(1), model.config.widths[1])
    with torch.no_grad():
        drafts = PlanDrafts(model, Draws(Sampling(0.0), None, lengths), AnchorStore(3, 1)).tokens(
            plan, places, ids, lengths, rows
        )
        unbound = model.encoder.unbound(plan[:, 0], 1)[:, :4]
        for row, length in enumerate(lengths.tolist()):
            text = torch.cat((ids[row, :length], drafts[row]))
            before = tokens_before(text)[length : length + 4]
            said = model.draft_head(unbound[row], before, model.encoder.vocabulary(32))
            logits = model.encoder.read_back_logits(said @ model.encoder.vocabulary(32).T)
            assert torch.equal(logits.argmax(-1), drafts[row])
    assert not torch.equal(drafts, model.decode_plan(plan[:, None], top_k=1)[:, 0, 0, :4, 0])


def learn(length: DraftLength, accepted: list[int], counts: list[int], compared: bool = False) -> None:
    every = torch.arange(len(counts))
    length.update(every, torch.tensor(accepted), torch.tensor(counts), every >= 0, compared)


def test_draft_length__stops_where_drafts_do_not_pay():
    length, chosen = DraftLength(small_config()), []
    for _ in range(20):
        chosen.append(length.best(1))
        learn(length, [0], [chosen[-1]])
    assert chosen[0] == 12
    assert set(chosen[2:]) == {0}
    for _ in range(30):  # comparisons of drafts and text
        learn(length, [12], [12], compared=True)
    assert length.best(1) == 12


@pytest.mark.parametrize("draft", SOURCES)
def test_draft_length__compares_drafts_and_text_now_and_then(draft: str):
    """Ever less often, down to a least frequency, until something is drafted again."""
    length, most = DraftLength(small_config(), draft), SOURCES[draft].watched
    compared = [step for step in range(1, 8 * most) if length.skip()]
    waits = [later - earlier for earlier, later in itertools.pairwise([0, *compared])]
    assert waits[:2] == [1, 4]
    assert waits == sorted(waits)
    assert waits[-1] == most
    learn(length, [0], [3], compared=True)
    assert not length.skip()
    learn(length, [0], [3])
    assert length.skip()


def test_draft_length__many_texts_need_more_acceptance():
    length = DraftLength(small_config())
    for step in range(100):
        learn(length, [3 * (step % 2)], [12])
    assert length.best(1) == 3
    assert length.best(256) == 0


def test_draft_length__a_batch_is_as_fast_as_its_slowest_text():
    length, others = DraftLength(small_config(), batch=4), DraftLength(small_config(), batch=4)
    for _ in range(50):
        learn(length, [12, 12, 12, 12], [12, 12, 12, 12])
        learn(others, [12, 12, 12, 0], [12, 12, 12, 12])
    assert length.best(4) == 12
    assert others.best(4) == 0


def test_draft_length__looks_for_drafts_where_there_are_some_at_times():
    length = DraftLength(small_config(), "text")
    for _ in range(20):
        learn(length, [0], [0])
    assert length.best(1) == 0  # right ones would not pay for the search
    for step in range(40):
        learn(length, [4 * (step % 2)], [4 * (step % 2)])
    assert length.best(1) >= 4
    before = length.best(1)
    for _ in range(40):  # at the end of the context nothing can be drafted
        length.update(torch.arange(1), torch.tensor([0]), torch.tensor([0]), torch.tensor([False]))
    assert length.best(1) == before


def test_draft_length__a_draft_that_ends_its_chunk_takes_the_levels_above():
    length = DraftLength(small_config(depth=[1, 16], sharing="separate"))
    for _ in range(100):
        learn(length, [3], [12])
    assert [length.best(1, place) for place in range(4)] == [3, 2, 1, 3]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"draft": "model"}, "unknown draft 'model'"),
        ({"levels": 1}, {"draft": "plan"}, "needs a plan, but the model has tokens alone"),
        ({"encoder__composition": "max"}, {"draft": "plan"}, "not 'max'"),
        ({"encoder__position_binding": False}, {"draft": "plan"}, "takes encoder.position_binding"),
        ({}, {"draft": "plan", "use_cache": False}, "works on the cache"),
        ({}, {"draft": "text", "use_cache": False}, "draft 'text' works on the cache"),
    ],
)
def test_generate__bad_drafts(changes: dict, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        generate(NextConceptModel(small_config(**changes)), torch.tensor([[1]]), 2, **options)
