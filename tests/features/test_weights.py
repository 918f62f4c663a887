"""Where weights come from: the grammar, and what it refuses."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.features.weights import WeightsSource


@pytest.mark.parametrize(
    ("text", "kind", "location"),
    [
        ("", "none", ""),
        ("pretrained", "pretrained", ""),
        ("random", "random", ""),
        ("package:phantom_resnet10.safetensors", "package", "phantom_resnet10.safetensors"),
        ("hf:timm/resnet18.a1_in1k", "hub", "timm/resnet18.a1_in1k"),
        ("weights/mobilenet.safetensors", "file", "weights/mobilenet.safetensors"),
        ("checkpoint.pth", "file", "checkpoint.pth"),
        ("/data/checkpoint", "file", "/data/checkpoint"),
        ("./checkpoint", "file", "./checkpoint"),
        ("../random", "file", "../random"),
    ],
)
def test_a_text_names_one_source_and_comes_back(text: str, kind: str, location: str) -> None:
    source = WeightsSource.parse(text)
    assert (source.kind, source.location, source.is_file) == (kind, location, kind == "file")
    assert str(source) == text


@pytest.mark.parametrize(
    "text",
    ["Random", "imagenet", "checkpoint", "timm/resnet18.a1_in1k", "hub:timm/resnet18", "hf:", "package:", " random",
     "https://example.org/weights.safetensors"],
)  # fmt: skip
def test_a_text_that_names_no_source_or_several_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a file nor a known source") as caught:
        WeightsSource.parse(text)
    assert caught.value.code is Code.WEIGHTS_MISSING
    assert "./name" in caught.value.remedy


def test_a_relative_file_starts_from_the_folder_and_nothing_else_moves(tmp_path: Path) -> None:
    source = WeightsSource.parse("weights/a.safetensors").relative_to(tmp_path)
    assert str(source) == str(tmp_path / "weights/a.safetensors")
    assert source.label == "a.safetensors"
    assert source.relative_to(Path("elsewhere")) == source
    for text in ("", "pretrained", "random", "hf:a/b", "package:a.safetensors"):
        assert str(WeightsSource.parse(text).relative_to(tmp_path)) == text


def test_a_file_without_a_suffix_stays_a_file_in_a_relative_folder() -> None:
    source = WeightsSource.parse("./checkpoint").relative_to(Path("studies"))
    assert WeightsSource.parse(str(source)) == source
    assert Path(source.location) == Path("studies/checkpoint")
    assert WeightsSource.parse(source.label) == WeightsSource("file", "./checkpoint")  # as a model file tells it


@pytest.mark.parametrize("nested", [True, False])
def test_a_checkpoint_of_torch_holds_what_a_safetensors_file_holds(tmp_path: Path, nested: bool) -> None:
    state = {"conv.weight": torch.rand(2, 3).half(), "count": torch.tensor(4)}
    save_file(state, tmp_path / "a.safetensors", metadata={"mean": "[0.5]"})
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save({"state_dict": wrapped, "epoch": 3} if nested else wrapped, tmp_path / "a.pth")
    found, notes = WeightsSource.parse(str(tmp_path / "a.safetensors")).read("net")
    again, none = WeightsSource.parse(str(tmp_path / "a.pth")).read("net")
    assert (dict(notes), dict(none)) == ({"mean": "[0.5]"}, {})
    assert found.keys() == again.keys() == state.keys()
    assert all(torch.equal(found[key], again[key]) for key in state)
    assert (found["conv.weight"].dtype, found["count"].dtype) == (torch.float32, torch.int64)
