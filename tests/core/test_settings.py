"""Settings by name."""

from nextconcept.core.settings import flat


def test_flat__names_values_of_nested_groups():
    values = {"a": 1, "b": {"c": None, "d": {"e": [1, {"f": 2}]}}, "g": {}}
    assert dict(flat(values)) == {"a": 1, "b.c": None, "b.d.e": [1, {"f": 2}], "g": {}}
    assert dict(flat(values, "x", whole=("x.b",))) == {"x.a": 1, "x.b": values["b"], "x.g": {}}
    assert dict(flat(values, lists=True)) == {"a": 1, "b.c": None, "b.d.e.0": 1, "b.d.e.1.f": 2, "g": {}}
