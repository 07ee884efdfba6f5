import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from nextconcept import ConceptModule, InputError, NextConceptModel
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.training.losses import LossConfig
from nextconcept.training.stored_classes import STORED, allow_stored_classes, plain_values
from tests.helpers import Doubling, small_config, trainer_of


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored.__name__)
def test_allow_stored_classes__loads_without_pickles(stored: type, tmp_path: Path):
    allow_stored_classes()
    torch.save(stored(), tmp_path / "settings.ckpt")
    assert torch.load(tmp_path / "settings.ckpt", weights_only=True) == stored()


def test_stored__has_the_class_of_all_settings_of_a_module():
    """Also of those within others."""

    def classes(value: object) -> set[type]:
        if not dataclasses.is_dataclass(value):
            return set()
        inner = [classes(getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {type(value)}.union(*inner)

    found = set[type]().union(*(classes(value) for value in ConceptModule().hparams.values()))
    assert len(found) > 5
    assert found <= set(STORED)


def test_plain_values__keeps_what_a_file_can_hold(tmp_path: Path):
    kept = {"a": [1, None, {"b": (2.5, "c")}], "config": small_config(), "d": torch.ones(2), "e": torch.float16}
    found = plain_values(kept | {"path": Path("x/y"), "code": print, "list": [1, object()], "tuple": (Path("z"),)})
    assert found == kept | {"path": str(Path("x/y")), "tuple": ("z",)}
    allow_stored_classes()
    torch.save(found, tmp_path / "settings.ckpt")
    torch.load(tmp_path / "settings.ckpt", weights_only=True)


class WithSettings(ConceptModule):
    def __init__(self, folder: Path = Path("x"), words: Any = print, **settings: Any) -> None:
        super().__init__(**settings)


def checkpoint(folder: Path, module: ConceptModule) -> Path:
    """Train a step with a plain trainer, and save."""
    trainer = trainer_of(folder, 1, limit_val_batches=0)
    loader = DataLoader(TensorDataset(torch.randint(0, 64, (2, 33))), batch_size=2)
    trainer.fit(module, loader, loader)
    trainer.save_checkpoint(folder / "end.ckpt")
    return folder / "end.ckpt"


def test_checkpoint__of_a_subclass_with_settings_of_any_kind_is_read_again(tmp_path: Path):
    path = checkpoint(tmp_path, WithSettings(Path("y"), config=small_config()))
    loaded = WithSettings.load_from_checkpoint(path)
    assert loaded.hparams["folder"] == "y"
    assert loaded.config == small_config().__class__.from_dict(loaded.config.to_dict())


def called(*_: object) -> None:
    raise AssertionError("a checkpoint was able to call this")


@pytest.mark.parametrize("key", ["hyper_parameters", "hparams", "module_arguments"])
@pytest.mark.parametrize("name", ["config", "loss"])
def test_load_from_checkpoint__imports_nothing_that_the_file_names(name: str, key: str, tmp_path: Path):
    path = checkpoint(tmp_path, ConceptModule(small_config()))
    content = torch.load(path, weights_only=True)
    code = f"{__name__}.called"
    settings = {"config": small_config(chunking=[code]), "loss": LossConfig({code: 1.0})}
    del content["hyper_parameters"][name]
    content.setdefault(key, {})[name] = settings[name]
    torch.save(content, path)
    with pytest.raises(InputError, match=f"asks for code of its own, .*called.*pass {name} "):
        ConceptModule.load_from_checkpoint(path)
    own = {"config": small_config(), "loss": LossConfig()}
    ConceptModule.load_from_checkpoint(path, **{name: own[name]})


def test_load_from_checkpoint__another_encoder(tmp_path: Path):
    path = checkpoint(tmp_path, ConceptModule(small_config(), encoder=Doubling))
    with pytest.raises(InputError, match="Doubling"):
        ConceptModule.load_from_checkpoint(path)
    loaded = ConceptModule.load_from_checkpoint(path, encoder=Doubling)
    assert isinstance(loaded.model.encoder, Doubling)
    trainer = trainer_of(tmp_path, -1)
    loader = DataLoader(TensorDataset(torch.randint(0, 64, (2, 33))), batch_size=2)
    with pytest.raises(InputError, match="made with the concept encoder Doubling, not ConceptEncoder"):
        trainer.validate(ConceptModule(small_config()), loader, ckpt_path=path, verbose=False, weights_only=True)


def test_load_from_checkpoint__keeps_its_weights_where_they_began_with_others(tmp_path: Path):
    save_pretrained(NextConceptModel(small_config(vocab_size=256)), ByteTokenizer(), tmp_path / "start")
    path = checkpoint(tmp_path, ConceptModule(small_config(vocab_size=256), init_from=str(tmp_path / "start")))
    loaded = ConceptModule.load_from_checkpoint(path)
    trained = {name: value.clone() for name, value in loaded.state_dict().items()}
    loader = DataLoader(TensorDataset(torch.randint(0, 64, (2, 33))), batch_size=2)
    trainer_of(tmp_path, -1).validate(loaded, loader, verbose=False)
    assert all(torch.equal(trained[name], value) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"chunk_size": 2}, "chunk_size"),
        ({"block.rope_base": 500.0, "sliding_window": 4}, "block.rope_base, sliding_window"),
        ({"dropout": 0.5, "planner.detach": True}, None),
        ({}, None),
    ],
)
def test_on_load_checkpoint__warns_of_settings_that_the_weights_do_not_show(
    changes: dict, named: str | None, tmp_path: Path
):
    path = checkpoint(tmp_path, ConceptModule(small_config()))
    config = small_config()
    for name, value in changes.items():
        *group, leaf = name.split(".")
        setattr(getattr(config, group[0]) if group else config, leaf, value)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loader = DataLoader(TensorDataset(torch.randint(0, 64, (2, 33))), batch_size=2)
        module = ConceptModule(config)
        trainer_of(tmp_path, -1).validate(module, loader, ckpt_path=path, verbose=False, weights_only=True)
    found = [str(one.message) for one in caught if "other settings of the model" in str(one.message)]
    assert [text.split("has: ")[1].split(". Unless")[0] for text in found] == ([named] if named else [])
