"""What a transfer does to fit: dimensions, kernels, channels by name, classes by map."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import medtransfer as mt
from medtransfer.errors import TransferError, UsageError

FLAT = {"conv_cfg": {"type": "Conv2d"}}


def states_equal(one, other) -> bool:
    return all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("inflation", ["mean", "center"])
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_2d_network_moves_into_3d_and_keeps_its_features_on_constant_volumes(tiny, inflation, axis):
    flat = tiny("resnet18", in_channels=3, num_stages=2, seed=1, **FLAT).eval()
    target = tiny("resnet18", in_channels=3, num_stages=2, seed=5).eval()
    report = mt.transfer(flat, target, head="keep", inflation=inflation, inflation_axis=axis)
    assert report.coverage == 1
    assert not report.missing
    assert {entry.how for entry in report.adapted} >= {f"2-D kernel 3x3 to 3x3x3 by {inflation!r} along axis {axis}"}
    image = torch.randn(1, 3, 32, 32)
    depth = 128  # of a field of view of 99: the middle slice sees no border, whose zeros a mean kernel would mix in
    volume = image.unsqueeze(axis).expand(
        *(depth if i == axis else n for i, n in enumerate(image.unsqueeze(axis).shape))
    )
    with torch.no_grad():
        for expected, found in zip(flat.features(image), target.features(volume), strict=True):
            middle = found.select(axis, found.shape[axis] // 2)
            torch.testing.assert_close(middle, expected, rtol=1e-4, atol=1e-4)


def test_acs_shares_out_the_planes(tiny):
    flat, target = tiny("resnet18", seed=1, **FLAT), tiny("resnet18", seed=2)
    mt.transfer(flat, target, inflation="acs")
    kernel = target.layer1[0].conv1.weight
    assert [int((kernel[row].abs().sum(dim=(0, *others)) > 0).sum()) for row, others in
            ((0, (2, 3)), (2, (1, 3)), (3, (1, 2)))].count(1) >= 2  # fmt: skip


def test_2d_rgb_weights_reach_a_3d_network_of_one_channel(tiny):
    report = mt.transfer(tiny("resnet18", in_channels=3, **FLAT), tiny("resunet18", in_channels=1), "sum")
    assert report.adapted[0].how == ("2-D kernel 7x7 to 7x7x7 by 'mean' along axis 2; 3 -> 1 input channels by 'sum'")


def test_3d_weights_do_not_go_into_a_2d_network(tiny):
    with pytest.raises(TransferError, match=r"3-D, the target is 2-D"):
        mt.transfer(tiny("resnet18"), tiny("resnet18", **FLAT))


def test_kernels_of_another_size_are_refused_unless_asked_for(tiny):
    source, target = tiny("resnet18", stem_kernel=3, seed=1), tiny("resnet18", stem_kernel=7, seed=2)
    with pytest.raises(TransferError, match="kernels='adapt'"):
        mt.transfer(source, target)
    report = mt.transfer(source, target, kernels="adapt")
    assert [(entry.key, entry.how) for entry in report.adapted] == [("conv1.weight", "kernel 3x3x3 to 7x7x7")]
    x = torch.randn(1, 1, 12, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(target.eval().features(x)[0], source.eval().features(x)[0], rtol=1e-5, atol=1e-6)


def test_channels_by_name_when_both_sides_have_a_card(tiny, tmp_path):
    source = tiny("resnet10", in_channels=2, seed=1)
    mt.save(source, tmp_path / "source", {"input_channels": ["t1", "flair"]})
    mt.save(tiny("resunet10", in_channels=3, seed=2), tmp_path / "target", {"input_channels": ["flair", "adc", "t1"]})
    target = mt.load(tmp_path / "target")
    report = mt.transfer(tmp_path / "source", target, "names")
    assert report.adapted[0].how == "input channels flair <- flair, adc <- zeros, t1 <- t1"
    expected = source.conv1.weight
    assert torch.equal(target.encoder_0[0].weight[:, [2, 0]], expected)
    assert not target.encoder_0[0].weight[:, 1].any()


def test_channels_by_name_need_names(tiny, tmp_path):
    mt.save(tiny("resnet10", in_channels=2), tmp_path / "source", {"input_channels": ["t1", "flair"]})
    target = tiny("resunet10", in_channels=2)
    with pytest.raises(UsageError, match="the target has none"):
        mt.transfer(tmp_path / "source", target, "names")
    with pytest.raises(UsageError, match="no channel has the same name: the source's are t1, flair"):
        mt.transfer(tmp_path / "source", target, "names", channel_names=["ct", "pet"])
    report = mt.transfer(tmp_path / "source", target, "names", channel_names=["flair", "pet"])
    assert report.adapted[0].how == "input channels flair <- flair, pet <- zeros"


@pytest.mark.parametrize("name, layer", [("resnet10", "head_fc"), ("resunet10", "final_layer.1")])
def test_a_map_of_classes_keeps_the_old_rows(tiny, name, layer):
    source, target = tiny(name, num_classes=3, seed=1), tiny(name, num_classes=4, seed=2)
    report = mt.transfer(source, target, head={0: 0, 1: 2, 2: None, 3: 1})
    old, new = source.get_submodule(layer), target.get_submodule(layer)
    assert torch.equal(new.weight[[0, 1, 3]], old.weight[[0, 2, 1]])
    assert torch.equal(new.bias[[0, 1, 3]], old.bias[[0, 2, 1]])
    assert [entry.how for entry in report.adapted] == [
        "rows 0 <- 0, 1 <- 2, 2 <- new (the mean of the old rows), 3 <- 1",
        "rows 0 <- 0, 1 <- 2, 2 <- new (log prior), 3 <- 1",
    ]
    assert not report.missing


def test_a_map_of_classes_reaches_deep_supervision_too(tiny):
    source = tiny("resunet10", num_classes=2, aux_train=True, seed=1)
    target = tiny("resunet10", num_classes=3, aux_train=True, seed=2)
    mt.transfer(source, target, head={0: 0, 1: 1, 2: 1})
    for old, new in zip(source.aux_layers, target.aux_layers, strict=True):
        assert torch.equal(new[1].weight, old[1].weight[[0, 1, 1]])


def test_classes_by_name(tiny, tmp_path):
    source = tiny("resunet10", num_classes=3, seed=1)
    mt.save(source, tmp_path / "source", {"classes": ["background", "liver", "tumour"]})
    target = tiny("resunet10", num_classes=2, seed=2)
    mt.transfer(
        tmp_path / "source", target, head={"rest": "background", "lesion": "tumour"}, class_names=["rest", "lesion"]
    )
    assert torch.equal(target.final_layer[1].weight, source.final_layer[1].weight[[0, 2]])


@pytest.mark.parametrize(
    "choice, words",
    [({0: 0}, "maps 1 classes, the target has 4"), ({0: 0, 1: 7, 2: 1, 3: 1}, "7"), ({0: 0, 5: 1}, "new class")],
)
def test_a_map_that_does_not_describe_the_classes_changes_nothing(tiny, choice, words):
    source, target = tiny("resnet10", num_classes=3, seed=1), tiny("resnet10", num_classes=4, seed=2)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(UsageError, match=words):
        mt.transfer(source, target, head=choice)
    assert states_equal(before, target.state_dict())


def test_a_classifier_gives_activation_volumes_at_once(tiny):
    """fc(GAP(x)) = GAP(conv(x)): the mean of the coarse logits is the classifier's answer."""
    classifier = tiny("resnet18", num_classes=5, seed=1).eval()
    volumes = tiny("resnet18", num_classes=5, seed=3, head_type="fcn").eval()
    report = mt.transfer(classifier, volumes, head="convert")
    assert [entry.key for entry in report.adapted] == ["head_conv.weight"]
    assert not report.missing
    x = torch.randn(2, 1, 48, 40, 33)
    with torch.no_grad():
        coarse = volumes.head_conv(volumes.features(x)[-1])
        torch.testing.assert_close(coarse.mean(dim=(2, 3, 4)), classifier(x), rtol=1e-4, atol=1e-5)
        fine = F.interpolate(coarse, size=x.shape[2:], mode="trilinear", align_corners=False)
        torch.testing.assert_close(volumes(x), fine, rtol=1e-5, atol=1e-6)
    back = tiny("resnet18", num_classes=5, seed=4).eval()
    mt.transfer(volumes, back, head="convert")
    assert states_equal(classifier.state_dict(), back.state_dict())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"inflation": "meen"}, "mean, center, acs"),
        ({"inflation_axis": 1}, "2, 3 or 4"),
        ({"kernels": "no"}, "strict, adapt"),
        ({"dialect": "medicalnett"}, "medicalnet"),
    ],
)
def test_unknown_options_are_refused(tiny, options, words):
    with pytest.raises(UsageError, match=words):
        mt.transfer(tiny("resnet10"), tiny("resnet10"), **options)


@pytest.mark.parametrize(
    "mode, rows",
    [("interpolate", [[0.875, 0.125], [0.125, 0.875]]), ("zero", [[1.0, 0.0], [0.0, 1.0]])],
)
def test_two_channels_to_four_and_back_are_as_documented(tiny, mode, rows):
    """2 -> 4 reads at -0.25, 0.25, 0.75, 1.25 (clamped), 4 -> 2 takes the mean of two neighbours."""
    source = tiny("resnet10", in_channels=2, seed=1)
    four, back = tiny("resunet10", in_channels=4, seed=2), tiny("resnet10", in_channels=2, seed=3)
    mt.transfer(source, four, mode)
    mt.transfer(four, back, mode)
    expected = torch.einsum("nc,ocdhw->ondhw", torch.tensor(rows), source.conv1.weight)
    torch.testing.assert_close(back.conv1.weight, expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(back.layer4[0].conv2.weight, source.layer4[0].conv2.weight)


def test_a_tensor_under_two_names_is_not_missing_under_the_second(tiny):
    """As in nnU-Net's networks, whose decoder holds the encoder once more."""
    target = torch.nn.Module()
    target.network = tiny("resnet10", seed=2)
    target.again = target.network
    report = mt.transfer(tiny("resnet10", seed=1), target, head="keep")
    assert (report.coverage, report.missing) == (1.0, [])
