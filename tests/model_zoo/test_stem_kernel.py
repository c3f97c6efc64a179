"""The plain stem's kernel: what networks for video have, and what is refused."""

from __future__ import annotations

import pytest
import torch

import medtransfer as mt
from medtransfer.errors import ModelError

SMALL = {"base_channels": 4, "stem_channels": 4}
VIDEO = {**SMALL, "stem_kernel": (3, 7, 7), "first_stride": (1, 2, 2)}


@pytest.mark.parametrize(
    "kernel, padding", [(7, (3, 3, 3)), (3, (1, 1, 1)), ((3, 7, 7), (1, 3, 3)), ([1, 5, 3], (0, 2, 1))]
)
@pytest.mark.parametrize("name", ["resnet10", "resunet10"])
def test_it_reaches_the_stem_and_nothing_else(name, kernel, padding):
    net = mt.create_model(name, stem_kernel=kernel, first_stride=1, **SMALL).eval()
    plain = mt.create_model(name, **SMALL).state_dict()
    stem = net.conv1 if name == "resnet10" else net.encoder_0[0]
    size = (kernel,) * 3 if isinstance(kernel, int) else tuple(kernel)
    assert (stem.kernel_size, stem.padding, stem.bias) == (size, padding, None)
    others = {key: value.shape for key, value in plain.items() if key not in ("conv1.weight", "encoder_0.0.weight")}
    assert others == {key: net.state_dict()[key].shape for key in others}
    assert net.features(torch.rand(1, 1, 9, 10, 11))[0].shape == (1, 4, 9, 10, 11)


def test_a_stem_for_video_keeps_the_first_axis_as_r3d_18_does():
    net = mt.create_model("resnet18", in_channels=3, pool="none", **VIDEO).eval()
    shapes = [tuple(values.shape[2:]) for values in net.features(torch.rand(1, 3, 8, 32, 32))]
    assert shapes == [(8, 16, 16), (8, 16, 16), (4, 8, 8), (2, 4, 4), (1, 2, 2)]
    assert net.stage_strides[:3] == ((1, 2, 2), (1, 1, 1), (2, 2, 2))


def test_a_segmenter_around_it_gives_logits_at_the_inputs_size():
    net = mt.create_model("resunet18", in_channels=1, num_classes=2, decoder_block="basic", **VIDEO).eval()
    assert net(torch.rand(1, 1, 9, 33, 30)).shape == (1, 2, 9, 33, 30)
    assert net.encoder_origin()["arguments"]["stem_kernel"] == [3, 7, 7]


def test_two_dimensional_stems_have_two_numbers():
    net = mt.create_model("resnet10", conv_cfg={"type": "Conv2d"}, stem_kernel=(3, 5), **SMALL)
    assert net.conv1.weight.shape[2:] == (3, 5)


def test_the_record_builds_it_again(tmp_path):
    net = mt.create_model("resnet10", num_classes=2, **VIDEO)
    assert mt.create_model("resnet10", **net.architecture["arguments"]).architecture == net.architecture
    mt.save(net, tmp_path / "folder")
    assert mt.load(tmp_path / "folder").conv1.kernel_size == (3, 7, 7)


@pytest.mark.parametrize("kernel", [4, 0, -1, (3, 7), (3, 6, 7), (3, 7, 7, 7), 3.0, (3, 7.0, 7)])
def test_a_kernel_that_has_no_centre_or_other_axes_is_refused(kernel):
    with pytest.raises(ModelError, match="stem_kernel must be an odd number, or 3 of them in 3-D"):
        mt.create_model("resnet10", stem_kernel=kernel, **SMALL)


def test_a_deep_stem_has_its_own_kernels():
    with pytest.raises(ModelError, match="deep_stem=True has kernels of 3"):
        mt.create_model("resnet10", deep_stem=True, stem_kernel=5, **SMALL)
