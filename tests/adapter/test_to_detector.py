"""Detectors around shared encoders, transfer into them and out of them, and their heads in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.adapter.detector_rows import inflate_pooled
from medtransfer.adapter.share import to_detector
from medtransfer.adapter.split_layer import merge_layer, split_layer
from medtransfer.errors import ModelError, TransferError, UsageError
from tests.adapter.conftest import fill
from tests.adapter.dialects.torchvision_detector_oracle import faster_rcnn, retinanet

SMALL: dict[str, Any] = {"out_channels": 8}
FLAT: dict[str, Any] = {"conv_cfg": {"type": "Conv2d"}}
BOXES = {"faster_rcnn": {"box_head_size": 8}, "retinanet": {}}

Build = Callable[..., nn.Module]


@pytest.fixture
def detector(tiny: Build) -> Build:
    """A detector of 4 and 8 channels; ``seed`` sets the values of its tensors."""

    def build(kind: str = "faster_rcnn", num_classes: int = 3, **arguments: Any) -> nn.Module:
        return tiny(f"{kind}_resnet10", num_classes=num_classes, **{**SMALL, **BOXES[kind], **arguments}).eval()

    return build


def keys(entries: list[Any]) -> set[str]:
    return {entry.key for entry in entries}


def encoder_values(network: nn.Module) -> list[Tensor]:
    return [value for stage in network.stages() for value in stage.parameters()]


SOURCES = ["resnet10", "resunet10", "vgg11", "plain_encoder", "resenc_unet", "multitask_resnet10"]


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])
def test_the_encoder_is_shared_or_copied(name: str, kind: str) -> None:
    given: dict[str, Any] = (
        {"base_channels": 4} if name[0] in "vmr" and "resenc" not in name else {"channels": [4, 8, 8]}
    )
    given |= {"heads": {"ill": {"task": "classification", "num_classes": 2}}} if name.startswith("multi") else {}
    source = mt.create_model(name, **given)
    shared, copied = (to_detector(source, 3, share, kind, **SMALL, **BOXES[kind]) for share in (True, False))
    own = encoder_values(source)
    assert all(a is b for a, b in zip(own, encoder_values(shared), strict=True))
    assert not any(a is b for a, b in zip(own, encoder_values(copied), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(own, encoder_values(copied), strict=True))
    assert (shared.task, shared.num_classes, shared.in_channels) == ("detection", 3, 1)
    again = mt.create_model(shared.architecture["name"], **shared.architecture["arguments"])
    assert again.state_dict().keys() == shared.state_dict().keys()


def test_a_step_on_the_detector_moves_the_classifier(tiny: Build) -> None:
    classifier = tiny(num_classes=2)
    net = to_detector(classifier, 2, **SMALL, box_head_size=8).train()
    before = classifier.layer4[0].conv1.weight.clone()
    target = {"boxes": torch.tensor([[4.0, 4, 4, 16, 20, 16]]), "labels": torch.tensor([1])}
    sum(net([torch.rand(1, 24, 24, 24), torch.rand(1, 20, 24, 16)], [target, target]).values()).backward()
    torch.optim.SGD(net.parameters(), lr=1.0).step()
    assert not torch.equal(classifier.layer4[0].conv1.weight, before)


def test_and_back_to_segmenter_and_classifier(detector: Build) -> None:
    net = detector()
    assert mt.to_segmenter(net, 4).encoder_2 is net.backbone.body.layer2
    assert mt.to_classifier(net, 4).layer2 is net.backbone.body.layer2


def test_refusals(tiny: Build) -> None:
    with pytest.raises(ModelError, match=r"no detector 'yolo'. Give one of faster_rcnn, retinanet"):
        to_detector(tiny(), 3, kind="yolo")
    with pytest.raises(ModelError, match="to_detector needs a network around"):
        to_detector(nn.Conv3d(1, 2, 3), 3)


@pytest.mark.parametrize("name", ["resnet10", "resunet10", "faster_rcnn_resnet10", "retinanet_resnet10"])
@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])
def test_any_network_into_a_detector(tiny: Build, detector: Build, name: str, kind: str) -> None:
    small = {**SMALL, **BOXES[name.rpartition("_")[0]]} if "_" in name else {}
    source, target = tiny(name, seed=1, in_channels=2, num_classes=5, **small), detector(kind)
    report = mt.transfer(source, target)
    assert report.coverage == 1
    assert not report.mismatched
    assert torch.equal(target.backbone.body.layer3[0].conv1.weight, source.stages()[3][0].conv1.weight)
    assert keys(report.adapted) == {"backbone.body.conv1.weight"}


@pytest.mark.parametrize("form", ["state dict", "file", "folder"])
def test_every_form_of_a_detector_is_a_source(detector: Build, form: str, tmp_path: Path) -> None:
    source, target = detector(seed=1), detector(seed=2)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    mt.save(source, tmp_path / "folder")
    forms = {"state dict": source.state_dict(), "file": tmp_path / "weights.safetensors", "folder": tmp_path / "folder"}
    report = mt.transfer(forms[form], target, head="keep")
    assert "detector keys" in report.source_format
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())
    assert report.architecture == "faster_rcnn_resnet10"


@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])
def test_a_detectors_encoder_into_a_segmenter(detector: Build, tiny: Build, kind: str) -> None:
    source, target = detector(kind, seed=1), tiny("resunet10", num_classes=3)
    report = mt.transfer(source, target)
    assert report.coverage == 1
    x = torch.rand(1, 1, 24, 24, 24)
    with torch.no_grad():
        for a, b in zip(source.features(x), target.eval().features(x), strict=True):
            assert torch.equal(a, b)


def test_coverage_counts_the_encoder_alone(detector: Build) -> None:
    source, target = detector(seed=1), detector()
    state = {key: value for key, value in source.state_dict().items() if "body" not in key}
    with pytest.raises(TransferError, match=r"0 of|only 0"):
        mt.transfer(state, target)


def test_classes_by_a_map(detector: Build) -> None:
    source, target = detector(num_classes=3, seed=1), detector(num_classes=4)
    mt.transfer(source, target, head={"none": 0, "cyst": 2, "lesion": None, "node": 1})
    old, new = source.roi_heads.box_predictor, target.roi_heads.box_predictor
    assert torch.equal(new.cls_score.weight[[0, 1, 3]], old.cls_score.weight[[0, 2, 1]])
    boxes, old_boxes = (each.bbox_pred.weight.unflatten(0, (-1, 6)) for each in (new, old))
    assert torch.equal(boxes[[0, 1, 3]], old_boxes[[0, 2, 1]])
    assert torch.allclose(boxes[2], old_boxes[1:].mean(0))
    assert torch.allclose(new.bbox_pred.bias[12:18], old.bbox_pred.bias.unflatten(0, (3, 6))[1:].mean(0))


def test_classes_of_every_anchor(detector: Build) -> None:
    source, target = detector("retinanet", num_classes=3, seed=1), detector("retinanet", num_classes=3)
    report = mt.transfer(source, target, head={0: 0, 1: 2, 2: None})
    old, new = (net.head.classification_head.cls_logits for net in (source, target))
    for anchor in range(9):
        rows = slice(3 * anchor, 3 * anchor + 3)
        assert torch.equal(new.weight[rows][:2], old.weight[rows][[0, 2]])
        assert new.bias[rows].sigmoid()[2].item() == pytest.approx(0.01)
    assert torch.equal(target.head.regression_head.bbox_reg.weight, source.head.regression_head.bbox_reg.weight)
    assert all("for each of 9 anchors" in entry.how for entry in report.adapted)


def test_names_of_classes_come_from_cards(detector: Build, tmp_path: Path) -> None:
    mt.save(detector(seed=1), tmp_path / "old", {"classes": ["background", "head", "tail"]})
    mt.save(detector(seed=2), tmp_path / "new", {"classes": ["background", "tail", "cyst"]})
    source, target = mt.load(tmp_path / "old"), mt.load(tmp_path / "new")
    mt.transfer(source, target, head={"background": "background", "tail": "tail", "cyst": None})
    old, new = (net.roi_heads.box_predictor.cls_score.weight for net in (source, target))
    assert torch.equal(new[1], old[2])


def test_a_map_of_another_number_of_classes(detector: Build) -> None:
    with pytest.raises(UsageError, match="head maps 2 classes, the target has 3"):
        mt.transfer(detector(), detector(), head={0: 0, 1: 1})


def test_other_anchors_keep_their_initial_rows(detector: Build) -> None:
    source, target = detector(seed=1), detector(aspect_ratios=[[1.0]] * 4)
    report = mt.transfer(source, target)
    assert {key.rpartition(".")[0] for key in keys(report.mismatched)} == {"rpn.head.cls_logits", "rpn.head.bbox_pred"}
    assert torch.equal(target.rpn.head.conv[0][0].weight, source.rpn.head.conv[0][0].weight)


def test_torchvisions_detector_into_a_volume(detector: Build) -> None:
    source = faster_rcnn()
    target = mt.create_model("faster_rcnn_resnet50", in_channels=1, num_classes=4, base_channels=4, stem_channels=4,
                             out_channels=8, box_head_size=16, box_roi_size=7, extra_levels="pool",
                             anchor_sizes=[[4], [8], [16], [32], [64]])  # fmt: skip
    report = mt.transfer(source, target)
    assert report.coverage == 1
    assert not report.mismatched
    dropped = {entry.key: entry.how for entry in report.dropped}
    assert dropped["rpn.head.bbox_pred.weight"] == "boxes of 2 axes have 4 numbers, the target's have 6"
    lateral = target.backbone.fpn.inner_blocks[0][0].weight
    assert torch.equal(lateral[..., 0, 0, 0], source["backbone.fpn.inner_blocks.0.0.weight"][..., 0, 0])
    # a pooled map that is constant along the new axis gives what the flat one gave
    pooled = torch.rand(2, 8, 7, 7)
    flat = nn.functional.linear(pooled.flatten(1), source["roi_heads.box_head.fc6.weight"])
    deep = nn.functional.linear(
        pooled[:, :, None].expand(2, 8, 7, 7, 7).flatten(1), target.roi_heads.box_head.fc6.weight
    )
    assert torch.allclose(deep, flat, atol=1e-4)


def test_pooled_features_of_other_bins_are_not_inflated() -> None:
    source = {"rpn.head.conv.0.0.weight": torch.zeros(8, 8, 3, 3)}
    target = {"rpn.head.conv.0.0.weight": torch.zeros(8, 8, 3, 3, 3)}
    fc6 = "roi_heads.box_head.fc6.weight"
    assert inflate_pooled(fc6, torch.zeros(4, 8 * 49), (4, 8 * 64), source, target, "mean", 2) is None
    found = inflate_pooled(fc6, torch.ones(4, 8 * 16), (4, 8 * 64), source, target, "center", 3)
    assert found is not None
    assert found[0].sum() == 4 * 8 * 16


def test_torchvisions_retinanet_into_a_volume() -> None:
    target = mt.create_model("retinanet_resnet50", num_classes=4, base_channels=4, stem_channels=4, out_channels=8,
                             returned_layers=[2, 3, 4], extra_levels="p6p7")  # fmt: skip
    report = mt.transfer(retinanet(), target, head={0: 0, 1: 2, 2: 1, 3: None})
    assert report.coverage == 1
    assert {e.key for e in report.dropped} == {f"head.regression_head.bbox_reg.{end}" for end in ("weight", "bias")}
    assert "head.classification_head.cls_logits.weight" in keys(report.adapted)


def test_inspect_knows_a_detector(tmp_path: Path) -> None:
    torch.save(faster_rcnn(), tmp_path / "old.pth")
    found = mt.inspect(tmp_path / "old.pth")
    assert (found.architecture, found.num_classes) == ("faster_rcnn_resnet50", 4)


@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])
def test_saved_and_loaded(detector: Build, kind: str, tmp_path: Path) -> None:
    net = detector(kind, seed=1, score_thresh=0.0) if kind == "retinanet" else detector(seed=1, box_score_thresh=0.0)
    mt.save(net, tmp_path / "model", {"classes": ["background", "head", "tail"]})
    again = mt.load(tmp_path / "model")
    scan = torch.rand(1, 24, 20, 16)
    with torch.no_grad():
        (a,), (b,) = net([scan]), again([scan])
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert again.card.task == "detection"


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_head_in_three_parts_is_the_same_head(ndim: int) -> None:
    """The split of ``seeds/000`` inside a network: exactly the same outputs, and any part trains alone."""
    conv = nn.Conv2d if ndim == 2 else nn.Conv3d
    net = nn.Sequential(nn.ReLU(), conv(32, 105, 3, padding=1))
    whole, x = {key: value.clone() for key, value in net.state_dict().items()}, torch.rand(16, 32, *(7, 7, 3)[:ndim])
    with torch.no_grad():
        before = net(x)
        split = split_layer(net, "1", {"objectness": 1, "box": 4, "classes": 100})
        assert torch.equal(net(x), before)
    mt.freeze(net)
    mt.unfreeze(net, "1.parts.classes")
    net(x).square().mean().backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1.0).step()
    assert torch.equal(split.parts["box"].weight, whole["1.weight"][1:5])
    assert not torch.equal(split.parts["classes"].weight, whole["1.weight"][5:])
    merged = merge_layer(net, "1")
    assert torch.equal(merged.weight[:5], whole["1.weight"][:5])
    assert torch.equal(merged.bias[:5], whole["1.bias"][:5])


@pytest.mark.parametrize("flat", [True, False], ids=["2-D", "3-D"])
def test_rows_of_anchors_are_split_and_the_detector_finds_the_same(detector: Build, flat: bool) -> None:
    net = fill(detector("retinanet", score_thresh=0.0, **(FLAT if flat else {})), 3)
    scan = torch.rand(1, *(48, 40, 24)[: 2 if flat else 3])
    with torch.no_grad():
        before = net([scan])[0]
        split_layer(net, "head.classification_head.cls_logits", {"background": 1, "old": 1, "new": 1}, anchors=9)
        found = net([scan])[0]
    assert len(before["scores"])
    assert all(torch.equal(found[key], before[key]) for key in before)
    merge_layer(net, "head.classification_head.cls_logits")
    assert isinstance(net.head.classification_head.cls_logits, nn.Conv2d if flat else nn.Conv3d)


def test_a_split_predictor_still_says_its_classes(detector: Build, tmp_path: Path) -> None:
    net = detector()
    before = net.roi_heads.box_predictor.cls_score.weight.clone()
    split_layer(net, "roi_heads.box_predictor.cls_score", {"background": 1, "organs": 2})
    assert net.num_classes == 3
    net([torch.rand(1, 24, 24, 24)])
    with pytest.raises(ModelError, match="is not as faster_rcnn_resnet10 was built"):
        mt.save(net, tmp_path / "model")
    assert torch.equal(merge_layer(net, "roi_heads.box_predictor.cls_score").weight, before)
    mt.save(net, tmp_path / "model")


def test_split_refusals() -> None:
    net = nn.Sequential(nn.Conv3d(2, 6, 1))
    with pytest.raises(UsageError, match=r"has no layer 'head'. Give its full name"):
        split_layer(net, "head", {"a": 6})
    with pytest.raises(UsageError, match="'0' is not split, it is a Conv3d"):
        merge_layer(net, "0")


def test_a_detector_whose_anchors_or_thresholds_were_exchanged_by_hand_is_not_saved_as_if_they_were_not(tmp_path):
    tiny = {"base_channels": 4, "stem_channels": 4, "out_channels": 8, "box_head_size": 8, "num_classes": 2}
    network = mt.create_model("faster_rcnn_resnet10", **tiny)
    before = network.rpn.anchor_generator
    network.rpn.anchor_generator = type(before)(((9, 10, 11),) * 4, before.aspect_ratios)
    with pytest.raises(ModelError, match=r"rpn\.anchor_generator\.sizes is \(\(9, 10, 11\), .*the architecture has"):
        mt.save(network, tmp_path / "model")
    network.rpn.anchor_generator = before
    network.roi_heads.score_thresh = 0.3
    with pytest.raises(ModelError, match=r"suppression\.score_thresh is 0\.3, the architecture has 0\.05"):
        mt.save(network, tmp_path / "model")
    assert not (tmp_path / "model").exists()
