"""Every format gives what the network gives, at other sizes too; what does not agree is not left there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.checkpoint.card import parse_card
from medtransfer.errors import MissingExtraError, ModelError, OutputExistsError, UsageError
from medtransfer.exporting import onnx_file, torchscript
from medtransfer.exporting.run import export
from tests.lowering.test_lower import with_statistics
from tests.tiny_zoo import tiny_arguments

SUFFIXES = (".onnx", ".pt2", ".ts")
#: networks of every kind, by name and arguments
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "fcn": ("vgg11_fcn", {}),
    "instance_norm": ("plain_encoder", {}),
    "heads": ("multitask_resnet10", {}),
    "2d": ("resunet10", {"conv_cfg": {"type": "Conv2d"}}),
    "ptimz": ("resunet10", {"deep_stem": True, "pool": "conv", "upsample_type": "interp", "full_resolution_skip": 4}),
    "anisotropic": ("plain_unet", {"strides": [1, [1, 2, 2], 2]}),
    "medicalnet": ("resnet10", {"geometry": "medicalnet"}),
    "deep_supervision": ("resenc_unet", {"aux_train": True, "with_cp": True}),
    "batch_statistics": ("genesis_unet", {}),
}
QUICK = {(kind, ".ts") for kind in KINDS}
NAMES = [name for name in mt.list_models() if not name.startswith(("faster_rcnn", "retinanet"))]


def tiny(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(mt.create_model(name, **{"in_channels": 2, **tiny_arguments(name), **arguments}))


def _marked(kind: str, suffix: str) -> Any:
    return pytest.param(kind, suffix, marks=[] if (kind, suffix) in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("kind,suffix", [_marked(kind, suffix) for kind in KINDS for suffix in SUFFIXES])
def test_a_file_gives_what_the_network_gives(kind: str, suffix: str, tmp_path: Path) -> None:
    name, arguments = KINDS[kind]
    network = tiny(name, **arguments).train()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    path = tmp_path / f"model{suffix}"
    report = export(network, path)
    assert report.difference < 1e-5
    assert len({check.shape for check in report.checks}) == 2
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert network.training
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_zoo(name: str, suffix: str, tmp_path: Path) -> None:
    assert export(tiny(name), tmp_path / f"model{suffix}").difference < 1e-5


def test_an_onnx_file_as_others_run_it(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network = tiny("vgg11_fcn", num_classes=3)
    card = {"input_channels": ["T1", "T2"], "classes": ["background", "left", "right"], "spacing": [1.0, 1.0, 2.0]}
    report = mt.export(network, tmp_path / "model.onnx", card=card)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert image.name == "image"
    assert image.shape == ["batch", 2, "16*depth_steps", "16*height_steps", "16*width_steps"]
    assert (logits.name, logits.shape[:2]) == ("logits", ["batch", 3])
    facts = session.get_modelmeta().custom_metadata_map
    assert parse_card(facts["model.json"]).classes == card["classes"]
    assert json.loads(facts["export.json"])["not_included"] == report.not_included
    scan = torch.randn(3, 2, 80, 32, 48)
    given = torch.from_numpy(session.run(None, {"image": scan.numpy()})[0])
    assert torch.allclose(given, network(scan), atol=1e-5)
    assert report.dynamic == ["batch", "depth", "height", "width"]
    assert int(report.versions["opset"]) >= 18


def test_a_torchscript_file_holds_its_card_and_outputs_by_name(tmp_path: Path) -> None:
    network = tiny("multitask_resnet10")
    report = export(network, tmp_path / "model.ts")
    texts = {"model.json": "", "export.json": ""}
    found = torch.jit.load(tmp_path / "model.ts", _extra_files=texts)
    assert parse_card(texts["model.json"]).heads is not None
    assert set(found(torch.randn(1, 2, 32, 64, 64))) == set(report.outputs) == {"organs", "ill", "age"}
    assert report.outputs["organs"] == ["batch", 3, "depth", "height", "width"]


def test_a_pt2_file_holds_its_card(tmp_path: Path) -> None:
    network = tiny("plain_encoder", channels=[4, 8])
    export(network, tmp_path / "model.pt2")
    texts = {"model.json": ""}
    found = torch.export.load(tmp_path / "model.pt2", extra_files=texts).module()
    scan = torch.randn(2, 2, 48, 32, 64)
    assert torch.allclose(found(scan), network(scan), atol=1e-6)
    assert parse_card(texts["model.json"]).architecture.name == "plain_encoder"


def test_axes_may_be_fixed_even_at_sizes_that_are_no_multiples(tmp_path: Path) -> None:
    report = export(tiny("vggunet11"), tmp_path / "model.ts", spatial_size=(19, 24, 33), batch_size=1)
    assert report.inputs == {"image": [1, 2, 19, 24, 33]}
    assert report.dynamic == []
    assert [check.shape for check in report.checks] == [(1, 2, 19, 24, 33)]


class _Forgetful(nn.Module):
    """Does something else at another size than 64 voxels, which a trace does not see."""

    task, in_channels, num_classes, output_stride = "segmentation", 1, 2, 32

    def forward(self, x: Tensor) -> Tensor:
        factor = 1.0 if x.shape[-1] == 64 else 2.0
        return torch.cat([x, factor * x], dim=1)


def test_what_does_not_agree_is_not_left_there(tmp_path: Path) -> None:
    path = tmp_path / "model.ts"
    path.write_bytes(b"older")
    with pytest.raises(ModelError, match=r"differs from the network by 0\.5 at 1x1x96x128x96, at most 0\.0001"):
        export(_Forgetful(), path, overwrite=True)
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["model.ts"]


def test_a_fault_of_the_writer_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torchscript.decode
    monkeypatch.setattr(torchscript, "decode", lambda data: lambda image: real(data)(image) * 1.001)
    with pytest.raises(ModelError, match=r"differs from the network by 0\.001"):
        export(tiny("vgg11"), tmp_path / "model.ts")
    assert not list(tmp_path.iterdir())


def test_only_the_bytes_that_were_written_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody exchanges the file between writing and reading: it is not read as a model."""
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: self.write_text("exchanged"))
    monkeypatch.setattr(torchscript, "decode", lambda data: pytest.fail("foreign bytes were run"))
    with pytest.raises(mt.MedTransferError, match="reads back otherwise"):
        export(tiny("vgg11"), tmp_path / "model.ts")


@pytest.mark.parametrize(
    "name,options,error,message",
    [
        ("model.h5", {}, UsageError, r"no format has the suffix '\.h5'. Use \.onnx"),
        ("model", {}, UsageError, "has no suffix"),
        ("model.ts", {"format": "onnx"}, UsageError, "the suffix is that of TorchScript"),
        ("model.ts", {"format": "tf"}, UsageError, "there is no format 'tf'"),
        ("model.ts", {"spatial_size": (8, 8)}, UsageError, "must be 3 numbers"),
        ("model.ts", {"spatial_size": 0}, UsageError, "must be 3 numbers"),
        ("model.ts", {"batch_size": 0}, UsageError, "batch_size must be"),
        ("model.ts", {"card": {"classes": ["one"]}}, UsageError, "the card is not valid"),
    ],
)
def test_wrong_wishes_are_refused(
    name: str, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        export(tiny("vgg11"), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_networks_that_no_graph_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="RetinaNet chooses its boxes by steps"):
        export(tiny("retinanet_resnet10"), tmp_path / "model.onnx")
    lost = tiny("vgg11")
    next(lost.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="gives NaN or infinite values"):
        export(lost, tmp_path / "model.ts")


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.ts").write_text("mine")
    with pytest.raises(OutputExistsError):
        export(tiny("vgg11"), tmp_path / "model.ts")
    assert (tmp_path / "model.ts").read_text() == "mine"


def test_weights_beyond_what_onnx_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "LIMIT", 1000)
    with pytest.raises(ModelError, match=r"an ONNX file holds less than 2 GiB\. Export to \.pt2"):
        export(tiny("vgg11"), tmp_path / "model.onnx")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"needs onnxscript. Run pip install 'medtransfer\[onnx\]'"):
        export(tiny("vgg11"), tmp_path / "model.onnx")
