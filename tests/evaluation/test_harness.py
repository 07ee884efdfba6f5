"""Models in the evaluation harness."""

import json
from pathlib import Path

import pytest
import torch
import yaml

lm_eval = pytest.importorskip("lm_eval", reason="the optional extra 'eval' is not installed")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from nextconcept import InputError, generate  # noqa: E402
from nextconcept.checkpoints.hub import save_pretrained  # noqa: E402
from nextconcept.data.tokenizers import ByteTokenizer  # noqa: E402
from nextconcept.evaluation.harness import ConceptLM  # noqa: E402
from nextconcept.training.objectives import token_losses  # noqa: E402
from tests.helpers import open_model, small_config  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["start", "end"])
def lm(request: pytest.FixtureRequest, tmp_path: Path) -> ConceptLM:
    model = open_model(small_config(vocab_size=256, context_length=32, encoder__chunk_alignment=request.param))
    save_pretrained(model, ByteTokenizer(), tmp_path / "exported")
    return ConceptLM(str(tmp_path / "exported"), batch_size=2)


def ask(kind: str, *arguments: tuple) -> list[Instance]:
    return [Instance(kind, {}, one, index) for index, one in enumerate(arguments)]


def nats(lm: ConceptLM, context: bytes, continuation: bytes) -> float:
    """Cross-entropy of a continuation, alone in its batch."""
    ids = torch.tensor([list(context + continuation)])
    offset = -len(context) % 4 if lm.model.config.encoder.chunk_alignment == "end" else 0
    return token_losses(lm.model(ids[:, :-1], offset=offset).logits, ids[:, 1:])[0, -len(continuation) :].sum().item()


def test_loglikelihood__is_the_sum_over_the_continuation_in_any_batch(lm: ConceptLM):
    pairs = [("To be", ", or not"), ("A", "B"), ("a rather long beginning", " x"), ("", "No context")]
    expected = [-nats(lm, (a or "\0").encode(), b.encode()) for a, b in pairs]
    found = lm.loglikelihood(ask("loglikelihood", *pairs), disable_tqdm=True)
    assert [score for score, _ in found] == pytest.approx(expected, abs=1e-4)


def test_loglikelihood__says_that_greedy_text_is_greedy(lm: ConceptLM):
    prompts = [chr(code) for code in range(ord("A"), ord("z"))]
    options = {"max_gen_toks": 2, "until": []}
    written = lm.generate_until(ask("generate_until", *((prompt, options) for prompt in prompts)))
    # An untrained model also writes bytes that are no text, which can't be scored.
    pairs = [(prompt, text) for prompt, text in zip(prompts, written, strict=True) if text and "�" not in text]
    assert pairs
    assert all(greedy for _, greedy in lm.loglikelihood(ask("loglikelihood", *pairs), disable_tqdm=True))


def test_loglikelihood__a_long_context_loses_its_beginning(lm: ConceptLM, caplog: pytest.LogCaptureFixture):
    text = "x" * 50 + "the end is near enough to be read"
    found = lm.loglikelihood(ask("loglikelihood", (text, "!")), disable_tqdm=True)[0][0]
    assert found == pytest.approx(-nats(lm, text[-32:].encode(), b"!"), abs=1e-4)
    assert "lost its beginning" in caplog.text
    with pytest.raises(InputError, match="a continuation of 34 tokens is longer"):
        lm.loglikelihood(ask("loglikelihood", ("a", "b" * 34)), disable_tqdm=True)


def test_loglikelihood_rolling__each_token_counts_once(lm: ConceptLM):
    text = "".join(map(chr, range(40, 110)))  # more than two windows
    parts = [("\0", text[:32]), (text[31], text[32:64]), (text[-33:-6], text[-6:])]
    expected = -sum(nats(lm, context.encode(), rest.encode()) for context, rest in parts)
    assert lm.loglikelihood_rolling(ask("loglikelihood_rolling", (text,)))[0] == pytest.approx(expected, abs=1e-3)


def test_generate_until__an_empty_text_begins_a_document(lm: ConceptLM):
    (text,) = lm.generate_until(ask("generate_until", ("", {"max_gen_toks": 4})))
    ids = generate(lm.model, torch.tensor([[lm.eot_token_id]]), 4, temperature=0.0)[0, 1:]
    # A character that the last tokens only begin is left out.
    assert len(text) > 0
    assert text == ByteTokenizer().decode(ids.tolist())[: len(text)]


@pytest.mark.parametrize(
    "options",
    [
        {"until": None},
        {"until": ["", None]},
        {"do_sample": True, "temperature": 0},
        {"do_sample": True, "temperature": None, "top_p": 1.0, "top_k": 1},
        {"do_sample": False, "temperature": 0.7, "top_p": 0, "top_k": 0},
        {"max_gen_toks": 5, "until": "\n\n\n\n"},
    ],
    ids=str,
)
def test_generate_until__options_as_tasks_give_them(options: dict, lm: ConceptLM):
    plain, other = [
        lm.generate_until(ask("generate_until", ("To be", one | {"max_gen_toks": 5})))[0] for one in ({}, options)
    ]
    assert plain == other


def test_options_out_of_range(tmp_path: Path):
    with pytest.raises(InputError, match="batch_size must be a number from 1, not auto"):
        ConceptLM(str(tmp_path), batch_size="auto")
    with pytest.raises(InputError, match="holds no"):
        ConceptLM(str(tmp_path))


def test_simple_evaluate__a_local_task(lm: ConceptLM, tmp_path: Path):
    rows = [{"question": f"{n} and 1 is", "choices": [f" {n + 1}", " red"], "answer": 0} for n in range(6)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "sums.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "sums.yaml").write_text(yaml.safe_dump(task))
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    found = lm_eval.simple_evaluate(lm, tasks=["sums"], task_manager=manager, bootstrap_iters=0)
    right = 0
    for row in rows:
        scores = [-nats(lm, row["question"].encode(), choice.encode()) for choice in row["choices"]]
        right += scores[0] > scores[1]
    assert found["results"]["sums"]["acc,none"] == pytest.approx(right / len(rows))
