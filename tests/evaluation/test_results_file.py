"""Results files of comparisons."""

import errno
import json
from pathlib import Path

import pytest

from nextconcept import InputError
from nextconcept.evaluation.results_file import ResultsFile
from tests.helpers import run_record


def test_add__keeps_the_file_sorted_and_complete(tmp_path: Path):
    path = tmp_path / "folder" / "trial.json"
    results = ResultsFile(path, {"name": "trial"})
    for record in (run_record("plan", 0, 1.0), run_record("gpt", 1, 2.0), run_record("gpt", 0, 3.0)):
        results.add(record)
    stored = json.loads(path.read_text())
    assert [run["key"] for run in stored["runs"]] == ["gpt0", "gpt1", "plan0"]
    assert stored["name"] == "trial"
    again = ResultsFile(path, {"name": "again"})
    assert "gpt1" in again
    assert "gpt2" not in again
    assert again["gpt0"]["final"]["val/loss/tokens"] == 3.0


def test_add__leaves_what_another_thread_reads(tmp_path: Path):
    results = ResultsFile(tmp_path / "trial.json", {"name": "trial"})
    results.add(run_record("plan", 0, 1.0))
    read = results.content["runs"]
    results.add(run_record("gpt", 0, 2.0))
    assert [run["key"] for run in read] == ["plan0"]
    assert [run["key"] for run in results.content["runs"]] == ["gpt0", "plan0"]


def test_add__a_file_that_cannot_be_written_leaves_the_records_that_it_had(tmp_path: Path, monkeypatch):
    path = tmp_path / "trial.json"
    results = ResultsFile(path, {"name": "trial"})
    results.add(run_record("gpt", 0, 1.0))
    before = path.read_bytes()

    def full(partial: Path, *_args, **_settings):
        partial.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"trial\.json can't be written: No space left on device"):
        results.add(run_record("gpt", 1, 2.0))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_results_file__machine_once_for_all_runs(tmp_path: Path):
    run = {key: value for key, value in run_record("gpt", 0, 1.0).items() if key not in ("machine", "versions")}
    path = tmp_path / "trial.json"
    path.write_text(json.dumps({"machine": "2 cores", "versions": {"torch": "1"}, "runs": [run]}))
    assert ResultsFile(path, {})["gpt0"]["machine"] == "2 cores"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"runs": 3}', '{"runs": [{}]}', '{"runs": [{"key": "a"}]}', "[" * 100_000]
)
def test_results_file__broken(content: str, tmp_path: Path):
    (tmp_path / "trial.json").write_text(content)
    with pytest.raises(InputError, match="is not the results file of a comparison"):
        ResultsFile(tmp_path / "trial.json", {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"final": {"val/loss/tokens": "low"}},
        {"stages": []},
        {"stages": [["0", 1.0]]},
        {"versions": ["torch"]},
        {"curves": []},
        {"curves": {"val/loss/tokens": [[0, None]]}},
        {"budget": [1e12]},
        {"seed": "0"},
        {"entry": 3},
    ],
    ids=str,
)
def test_results_file__records_of_other_types(wrong: dict, tmp_path: Path):
    (tmp_path / "trial.json").write_text(json.dumps({"runs": [run_record("gpt", 0, 1.0) | wrong]}))
    with pytest.raises(InputError, match="is not the results file of a comparison"):
        ResultsFile(tmp_path / "trial.json", {})


def test_lock__one_comparison_at_a_time(tmp_path: Path):
    path = tmp_path / "trial.json"
    with (
        ResultsFile.lock(path),
        pytest.raises(InputError, match="another comparison is writing"),
        ResultsFile.lock(path),
    ):
        pass
    with ResultsFile.lock(path), ResultsFile.lock(tmp_path / "other.json"):
        pass
