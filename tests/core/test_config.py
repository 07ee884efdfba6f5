import math

import pytest

from nextconcept import InputError, ModelConfig, NextConceptModel
from nextconcept.core.config_groups import BlockConfig, EncoderConfig, PlannerConfig
from nextconcept.nn.growth import grown_config
from tests.helpers import small_config


def test_widths__nested_levels_get_narrower_towards_the_tokens():
    config = ModelConfig(levels=3, width=256, num_heads=8)
    assert config.widths == [64, 128, 256]
    assert config.level_heads == [2, 4, 8]


def test_widths__separate_levels_have_their_own():
    config = ModelConfig(levels=2, sharing="separate", width=[96, 192], num_heads=[4, 6], depth=[3, 2])
    assert (config.widths, config.level_heads, config.depths) == ([96, 192], [4, 6], [3, 2])


@pytest.mark.parametrize(
    ("changes", "kv_heads", "sizes"),
    [
        ({}, [2, 4, 8], [32, 32, 32]),
        ({"num_kv_heads": 4}, [1, 2, 4], [32, 32, 32]),
        ({"num_kv_heads": 1}, [1, 1, 1], [32, 32, 32]),
        ({"num_kv_heads": 2, "head_size": 20}, [1, 1, 2], [20, 20, 20]),
        ({"num_kv_heads": 2, "slicing": "head_size"}, [2, 2, 2], [8, 16, 32]),
        ({"num_kv_heads": 2, "slicing": "head_size", "head_size": 16}, [2, 2, 2], [4, 8, 16]),
        ({"num_kv_heads": 2, "sharing": "shared"}, [2, 2, 2], [32, 32, 32]),
        ({"num_kv_heads": 2, "sharing": "separate", "num_heads": [2, 4, 8]}, [2, 2, 2], [128, 64, 32]),
    ],
    ids=str,
)
def test_level_kv_heads__follow_the_heads_of_a_level(changes: dict, kv_heads: list[int], sizes: list[int]):
    block = {name: changes[name] for name in ("num_kv_heads", "head_size") if name in changes}
    top = {name: changes[name] for name in ("sharing", "num_heads") if name in changes}
    nested = {"slicing": changes.get("slicing", "heads")}
    config = ModelConfig(**({"levels": 3, "width": 256, "num_heads": 8} | top), block=block, nested=nested)
    assert (config.level_kv_heads, config.level_head_sizes) == (kv_heads, sizes)
    assert config.key_widths == [heads * size for heads, size in zip(kv_heads, sizes, strict=True)]


def test_context__defaults_to_whole_chunks():
    assert ModelConfig(levels=2, chunk_size=3).context_length == 258


def test_from_dict__restores_to_dict():
    config = ModelConfig(levels=3, num_heads=8, horizon=2)
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_length": 30}, "context_length 30 is not divisible by 4"),
        ({"levels": 3, "width": 250}, "width 250 is not divisible by 4"),
        ({"width": [64, 128]}, "width must be one number when sharing is 'nested'"),
        ({"sharing": "separate", "depth": [1, 2, 3]}, "depth has 3 values where 2 levels need 2"),
        ({"levels": 1, "sharing": "separate", "depth": [], "sliding_window": [[1]]}, "depth has no value"),
        ({"sharing": "shared", "width": 100, "num_heads": 3}, "divisible by twice its 3 heads"),
        ({"horizon": 0}, "horizon must be positive"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"encoder": {"depth": -1}}, "encoder.depth must be 0 or more"),
        ({"encoder": {"composition": "wings"}}, "encoder.composition 'wings' must be a chain of sum, mean, max"),
        ({"encoder": {"composition": "sum->max"}}, "encoder.composition 'sum->max' must be a chain"),
        ({"encoder": {"chunk_alignment": "middle"}}, "encoder.chunk_alignment can't be 'middle'"),
        ({"planner": {"noise_width": -1}}, "planner.noise_width must be 0 or more"),
        ({"planner": {"matching": {}}}, "set planner.mode to 'rollout'"),
        ({"planner": {"mode": "rollout", "matching": {"beam": 0}}}, "beam 0 must be 1 or more"),
        (
            {"planner": {"mode": "rollout", "matching": {}}, "encoder": {"composition": "max"}},
            "planner.matching needs a composition that is a sum or mean",
        ),
        ({"reader": {"memory": True}}, "reader.memory can't be True: choose from none, concepts, states"),
        ({"block": {"rope_base": 0}}, "block.rope_base must be positive"),
        ({"block": {"feed_forward_ratio": -1.0}}, "block.feed_forward_ratio must be positive"),
        ({"block": {"num_kv_heads": 0}}, "block.num_kv_heads must be positive"),
        ({"block": {"num_kv_heads": 3}}, "block.num_kv_heads 3 does not fit the 2 attention heads of level 0"),
        (
            {"block": {"num_kv_heads": 3}, "num_heads": 6, "width": 96},
            "block.num_kv_heads 3 does not fit the 3 attention heads of level 0",
        ),
        (
            {"block": {"num_kv_heads": 3}, "sharing": "separate", "width": 48, "num_heads": [6, 4]},
            "block.num_kv_heads 3 does not fit the 4 attention heads of level 1",
        ),
        ({"block": {"head_size": 7}}, "block.head_size 7 must be divisible by 2"),
        ({"block": {"head_size": 2}, "nested": {"slicing": "head_size"}}, "block.head_size 2 must be divisible by 4"),
        ({"encoder": {"flat": True, "composition": "mlp"}}, "encoder.flat needs a composition with sum, mean or max"),
        ({"encoder": {"composition": "geglu"}}, "or ends in linear or mlp"),
        ({"nested": {"width_ratio": 0}}, "nested.width_ratio must be 1 or more"),
        ({"planner": {"wings": 2}}, "unknown settings planner.wings"),
        ({"width": "wide"}, "width can't be 'wide'"),
        ({"horizon": float("inf")}, "horizon can't be inf: see the docstring of ModelConfig"),
        ({"context_length": 2**63}, "context_length can't be 9223372036854775808"),
        ({"block": {"rope_base": 10**400}}, "block.rope_base can't be 1000"),
        ({"block": {"feed_forward_ratio": math.inf}}, "block.feed_forward_ratio must be positive"),
        ({"block": {"rope_base": math.nan}}, "block.rope_base must be positive"),
        ({"planner": {"matching": {"temperature": math.nan}}}, "temperature nan 0 or more"),
    ],
)
def test_init__names_what_does_not_fit(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        ModelConfig(**changes)


def test_from_dict__unknown_name():
    with pytest.raises(InputError, match="unknown settings wings"):
        ModelConfig.from_dict({"wings": 2})


def test_init__groups_may_be_dictionaries():
    config = ModelConfig(encoder={"depth": 2}, planner={"mode": "rollout", "matching": {"beam": 4}})
    assert config.encoder == EncoderConfig(depth=2)
    assert config.planner.matching.beam == 4
    assert config.block == BlockConfig()
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_init__groups_are_not_shared_between_configurations():
    first, second = ModelConfig(), ModelConfig()
    assert first.planner is not second.planner
    assert first.planner == PlannerConfig()


GPT = {"levels": 1, "width": 32, "num_heads": 2, "depth": 1, "vocab_size": 17, "context_length": 16}


@pytest.mark.parametrize("sharing", ["nested", "shared", "separate"])
def test_levels_1__lists_count_with_their_first_value(sharing: str):
    lists = {"width": [32, 64], "num_heads": [2, 4], "depth": [1, 3], "num_loops": [2, 1], "sliding_window": [4, None]}
    config = ModelConfig(**(GPT | lists), sharing=sharing, horizon=[3, "full"])
    assert (config.width, config.num_heads, config.depth, config.num_loops) == (32, 2, 1, 2)
    assert (config.sliding_window, config.horizon) == (4, 3)
    assert config.block_windows(0) == [4]


def test_sliding_window__has_a_value_per_block_where_a_level_lists_them():
    options = {"sharing": "separate", "depth": [1, 2], "encoder": {"depth": 3}}
    options["sliding_window"] = [[32, 32, 128, None], [8, 16]]
    config = ModelConfig(levels=2, **options)
    assert [config.block_windows(level) for level in (0, 1)] == [[32, 32, 128, None], [8, 16]]
    assert [config.memory_window(level) for level in (0, 1)] == [None, 16]
    assert ModelConfig(levels=1, **options).block_windows(0) == [None]  # without the token encoder's
    model = NextConceptModel(config)
    assert model.encoder.shape.sliding_windows == (32, 32, 128)
    assert model.decoder.shape.sliding_windows == (None,)
    with pytest.raises(InputError, match="level 0 has 2 values where its 4 blocks need one each"):
        ModelConfig(levels=2, sharing="separate", depth=[1, 2], encoder={"depth": 3}, sliding_window=[[4, 8], 8])


def test_levels_1__groups_that_describe_concepts_add_no_parameters():
    groups = {
        "encoder": {"composition": "mlp->sum->mlp->norm", "depth": 3, "chunk_alignment": "end"},
        "planner": {"mode": "rollout", "plan_head": "mlp", "noise_width": 4, "detach": True},
        "reader": {"plan_conditioning": "prefix", "memory": "states"},
        "nested": {"width_ratio": 4, "slicing": "head_size"},
    }
    model = NextConceptModel(ModelConfig(**GPT, **groups))
    plain = NextConceptModel(ModelConfig(**GPT))
    assert list(model.state_dict()) == list(plain.state_dict())


def test_padding__fills_the_first_chunk_when_chunks_end_with_the_text():
    config = ModelConfig(levels=3, encoder={"chunk_alignment": "end"}, num_heads=8)
    assert [config.padding(time) for time in (1, 15, 16, 17)] == [15, 1, 0, 15]
    assert ModelConfig(levels=3, num_heads=8).padding(17) == 0
    assert ModelConfig(levels=1, encoder={"chunk_alignment": "end"}).padding(17) == 0


def test_from_dict__a_flat_configuration_of_an_older_version_is_refused_in_one_sentence():
    flat = {"vocab_size": 256, "levels": 2, "heads": 4, "window": None, "past": "none", "plan_mode": "parallel"}
    with pytest.raises(InputError, match="heads, past, plan_mode, window: .* comes from another version") as error:
        ModelConfig.from_dict(flat)
    assert str(error.value).count(".") <= 1
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sharing", ["nested", "shared", "separate"])
def test_grown_config__of_a_gpt_is_a_valid_model_with_two_levels(sharing: str):
    gpt = ModelConfig(**GPT, sharing=sharing, horizon=[], encoder={"depth": 2, "composition": "mlp"})
    bigger = grown_config(gpt)
    assert (bigger.levels, bigger.widths[0], bigger.level_heads[0]) == (2, 32, 2)
    assert bigger.encoder.depth == 0
    assert bigger.horizon_of(1) == 4


def test_from_dict__an_untied_model_of_version_0_2_was_read_at_another_scale():
    stored = small_config(tie_embeddings=False).to_dict()
    assert ModelConfig.from_dict(stored).scale_embeddings
    del stored["scale_embeddings"]
    with pytest.raises(InputError, match="comes from nextconcept 0.2"):
        ModelConfig.from_dict(stored)
    assert ModelConfig.from_dict(stored | {"tie_embeddings": True}).tie_embeddings
