import pytest

from nextconcept import InputError, ModelConfig


def test_widths__nested_levels_get_narrower_towards_the_tokens():
    config = ModelConfig(levels=3, width=256, num_heads=8)
    assert config.widths == [64, 128, 256]
    assert config.level_heads == [2, 4, 8]


def test_widths__separate_levels_have_their_own():
    config = ModelConfig(levels=2, sharing="separate", width=[96, 192], num_heads=[4, 6], depth=[3, 2])
    assert (config.widths, config.level_heads, config.depths) == ([96, 192], [4, 6], [3, 2])


def test_context__defaults_to_whole_chunks():
    assert ModelConfig(levels=2, chunk_size=3).context == 258


def test_from_dict__restores_to_dict():
    config = ModelConfig(levels=3, num_heads=8, horizon=2)
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_length": 30}, "context 30 is not divisible by 4"),
        ({"levels": 3, "width": 250}, "width 250 is not divisible by 4"),
        ({"width": [64, 128]}, "width must be one number when sharing is 'nested'"),
        ({"sharing": "separate", "depth": [1, 2, 3]}, "depth has 3 values where 2 levels need 2"),
        ({"sharing": "shared", "width": 100, "num_heads": 3}, "divisible by twice its 3 heads"),
        ({"horizon": 0}, "horizon must be positive"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"encoder__depth": -1}, "encoder_depth must be 0 or more"),
    ],
)
def test_init__names_what_does_not_fit(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        ModelConfig(**changes)


def test_from_dict__unknown_name():
    with pytest.raises(InputError, match="unknown model settings wings"):
        ModelConfig.from_dict({"wings": 2})
