import pytest

from nextconcept import NextConceptModel
from nextconcept.baselines import BeliefState
from nextconcept.training.callbacks.level_summary import level_table
from tests.helpers import small_config


@pytest.mark.parametrize("sharing", ["nested", "separate"])
@pytest.mark.parametrize("levels", [1, 3])
def test_level_table__rows_add_up(levels: int, sharing: str):
    drafts = {"planner__draft_width": 16, "reader__pointers": 2} if levels == 3 else {}
    model = NextConceptModel(small_config(levels=levels, width=64, sharing=sharing, encoder__depth=1, **drafts))
    lines = [line.split() for line in level_table(model).splitlines()]
    assert lines[0] == ["level", "width", "depth", "parameters", "MFLOPs/token"]
    rows = lines[1 : levels + 1]
    assert [row[:4] for row in rows] == [
        [str(level), "concepts" if level else "tokens", str(model.config.widths[level]), "2"] for level in range(levels)
    ]
    rest = ["draft"] if drafts else []
    rest += [] if sharing == "separate" or levels == 1 else ["shared"]
    assert [row[0] for row in lines[levels + 1 :]] == [*rest, "total"]
    counts = [int(line[-2].replace(",", "")) for line in rows]
    counts += [int(line[-1].replace(",", "")) for line in lines[levels + 1 : -1]]
    assert int(lines[-1][1].replace(",", "")) == sum(counts) == sum(one.numel() for one in model.parameters())
    total = float(lines[-1][2])
    assert total == pytest.approx(model.flops_per_token(model.config.window_length) / 1e6, abs=1e-3)
    assert sum(float(row[-1]) for row in rows) == pytest.approx(total, abs=2e-3)


def test_level_table__what_an_objective_trains_has_a_row():
    model = NextConceptModel(small_config(levels=1))
    objective = BeliefState(model)
    own = sum(one.numel() for one in objective.parameters())
    lines = [line.split() for line in level_table(model, objective).splitlines()]
    assert lines[-2] == ["objective", f"{own:,}"]
    assert lines[-1][1] == f"{own + sum(one.numel() for one in model.parameters()):,}"
