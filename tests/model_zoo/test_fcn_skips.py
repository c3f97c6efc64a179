"""FCN-32s, 16s and 8s: which maps give scores, how they add up, and hidden layers that slide over the map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import medtransfer as mt
from medtransfer.errors import ModelError
from medtransfer.model_zoo.fcn import Level, SlidingPad, centred, skips_to
from medtransfer.training.tasks import Segmenter

Randomise = Callable[[nn.Module], nn.Module]
FLAT: dict[str, Any] = {"conv_cfg": {"type": "Conv2d"}}
RESNET = {"base_channels": 4, "stem_channels": 4}
#: name, arguments, stride of the finest scores -> strides of all scores
SKIPS: dict[str, tuple[str, dict[str, Any], int, list[tuple[int, ...]]]] = {
    "FCN-32s": ("vgg11_fcn", {"fc_channels": 6, "head_pool": 2}, 32, [(32,) * 3]),
    "FCN-16s": ("vgg11_fcn", {"fc_channels": 6, "head_pool": 2}, 16, [(32,) * 3, (16,) * 3]),
    "FCN-8s": ("vgg11_fcn", {"fc_channels": 6, "head_pool": 2}, 8, [(32,) * 3, (16,) * 3, (8,) * 3]),
    "FCN-8s, 2-D": ("vgg16_fcn", {"fc_channels": 6, **FLAT}, 8, [(32,) * 2, (16,) * 2, (8,) * 2]),
    "without hidden layers": ("vgg11_fcn", {"batch_norm": True}, 8, [(16,) * 3, (8,) * 3]),
    "residual": ("resnet18", {"head_type": "fcn", **RESNET}, 8, [(32,) * 3, (16,) * 3, (8,) * 3]),
    "dilated": ("resnet18", {"head_type": "fcn", "geometry": "medicalnet", **RESNET}, 4, [(8,) * 3, (4,) * 3]),
    "anisotropic": (
        "plain_encoder",
        {"head_type": "fcn", "channels": (4, 8, 8), "strides": [1, (1, 2, 2), (1, 2, 2)]},
        2,
        [(1, 4, 4), (1, 2, 2)],
    ),
    "nnU-Net's": ("resenc_encoder", {"head_type": "fcn", "channels": (4, 8, 8)}, 1, [(4,) * 3, (2,) * 3, (1,) * 3]),
}


def build(name: str, randomise: Randomise, **arguments: Any) -> nn.Module:
    small = {"base_channels": 4} if name.startswith("vgg") else {}
    return randomise(mt.create_model(name, in_channels=2, num_classes=3, **{**small, **arguments})).eval()


@pytest.mark.parametrize(("name", "arguments", "finest", "strides"), SKIPS.values(), ids=SKIPS)
@torch.no_grad()
def test_scores_lie_at_their_strides_and_add_up(
    name: str, arguments: dict[str, Any], finest: int, strides: list[tuple[int, ...]], randomise: Randomise
) -> None:
    net = build(name, randomise, fcn_stride=finest, **arguments)
    size = [2 * step for step in net.output_stride]
    x = torch.rand(1, 2, *size)
    scores = net.scores(net.features(x))
    assert [tuple(n // m for n, m in zip(size, score.shape[2:], strict=True)) for score in scores] == strides
    mode = "bilinear" if len(size) == 2 else "trilinear"
    by_hand = sum(F.interpolate(score, size=size, mode=mode, align_corners=False) for score in scores)
    torch.testing.assert_close(net(x), by_hand)
    assert net.output_stride == strides[0]


@pytest.mark.parametrize(("name", "arguments", "finest", "strides"), SKIPS.values(), ids=SKIPS)
@torch.no_grad()
def test_skips_start_at_zero_and_the_network_as_the_one_without(
    name: str, arguments: dict[str, Any], finest: int, strides: list[tuple[int, ...]], randomise: Randomise
) -> None:
    plain = build(name, randomise, **arguments)
    skipping = mt.create_model(**_record(plain), fcn_stride=finest).eval()
    assert all(not tensor.any() for key, tensor in skipping.state_dict().items() if key.startswith("head_skips"))
    missing = skipping.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert len(missing) == 2 * (len(strides) - 1)
    x = torch.rand(1, 2, *(step + 5 for step in plain.output_stride))
    assert torch.equal(skipping(x), plain(x))


def _record(network: nn.Module) -> dict[str, Any]:
    record = network.architecture
    return {"name": record["name"], **record["arguments"]}


@torch.no_grad()
def test_skips_of_a_vgg_are_the_papers_pool4_and_pool3(randomise: Randomise) -> None:
    net = build("vgg16_fcn", randomise, fc_channels=6, fcn_stride=8, **FLAT)
    x = torch.rand(1, 2, 96, 64)
    maps = net.features(x)
    pooled = [F.max_pool2d(maps[i], 2) for i in (3, 2)]
    for conv, pool, score in zip(net.head_skips, pooled, net.scores(maps)[1:], strict=True):
        torch.testing.assert_close(score, conv(pool))
    assert [conv.in_channels for conv in net.head_skips] == [32, 16]


@pytest.mark.parametrize("pool", [1, 2, 3, (1, 2, 3)], ids=str)
@torch.no_grad()
def test_hidden_layers_slide_over_the_map_as_the_classifier_over_its_parts(pool: Any, randomise: Randomise) -> None:
    classifier = build("vgg11", randomise, fc_channels=6, head_pool=pool)
    fcn = mt.to_fcn(classifier)
    kernel = (pool,) * 3 if isinstance(pool, int) else pool
    last = torch.rand(1, 32, *(2 * (k + 2) for k in kernel))  # before the head's pooling, which halves it
    slid = fcn.head_conv(fcn.head_hidden(last))
    starts = torch.cartesian_prod(*(torch.arange(3) for _ in range(3))).tolist()
    for start in starts:
        part = last[(..., *(slice(2 * s, 2 * (s + k)) for s, k in zip(start, kernel, strict=True)))]
        expected = classifier.head_fc(classifier.head_hidden(part))
        at = [s + k // 2 for s, k in zip(start, kernel, strict=True)]
        torch.testing.assert_close(slid[(..., *at)], expected)


@torch.no_grad()
def test_sliding_equals_running_over_crops_of_the_image(randomise: Randomise) -> None:
    """Without padding in the encoder, whose zeros a crop has elsewhere."""
    classifier = build("vgg11", randomise, fc_channels=6, head_pool=2, strides=[1, 2, 1, 1, 1], **FLAT)
    for conv in classifier.features.modules():
        if isinstance(conv, nn.Conv2d):
            conv.padding = (0, 0)
    fcn = mt.to_fcn(classifier)
    x = torch.rand(1, 2, 50, 46)  # a crop of 38 gives a pooled map of 2
    slid = fcn.head_conv(fcn.head_hidden(fcn.features(x)[-1]))[:, :, 1:-1, 1:-1]
    assert slid.shape == (1, 3, 4, 3)
    for i, j in torch.cartesian_prod(torch.arange(4), torch.arange(3)).tolist():
        crop = x[:, :, 4 * i : 4 * i + 38, 4 * j : 4 * j + 38]
        torch.testing.assert_close(slid[:, :, i, j], classifier(crop), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_position_is_the_classifiers_logits(randomise: Randomise) -> None:
    for arguments, size in (({**FLAT}, (224, 224)), ({"head_pool": 3}, (96, 96, 96))):
        classifier = build("vgg11", randomise, fc_channels=6, **arguments)
        x = torch.rand(1, 2, *size)
        scores = mt.to_fcn(classifier).scores(classifier.features(x))[0]
        middle = tuple(n // 2 for n in scores.shape[2:])
        torch.testing.assert_close(scores[(..., *middle)], classifier(x))


def test_an_even_kernel_is_centred_by_means_of_neighbours() -> None:
    ramp = torch.arange(6.0).view(1, 1, 6)
    for size in (1, 2, 3, 4):
        mean = F.avg_pool1d(SlidingPad([size])(ramp), size, stride=1)
        assert torch.equal(centred(mean, [size])[..., 2:4], torch.tensor([[[2.0, 3.0]]]))


def test_the_deepest_map_of_a_stride_is_taken() -> None:
    levels = [Level(i, 1, (step, step)) for i, step in enumerate((2, 4, 4, 8, 8))]
    assert [level.index for level in skips_to(2, levels, last=(8, 8))] == [2, 0]
    assert skips_to(8, levels, last=(8, 8)) == []
    with pytest.raises(ModelError, match="fcn_stride must be one of 8, 4, 2 in this network, got 5"):
        skips_to(5, levels, last=(8, 8))


def test_it_trains_and_the_finer_scores_help() -> None:
    """A pattern finer than the last map: only the skips can tell it."""
    torch.manual_seed(0)
    label = torch.zeros(2, 1, 16, 16, 16)
    label[..., ::8], label[..., 1::8], label[..., 2::8], label[..., 3::8] = 1, 1, 1, 1
    image = label + 0.1 * torch.randn(label.shape)
    losses = {}
    for finest in (16, 2):
        torch.manual_seed(1)
        net = mt.create_model("vgg11_fcn", num_classes=2, base_channels=4, batch_norm=True, fcn_stride=finest)
        task = Segmenter(net)
        optimizer = torch.optim.Adam(task.parameters(), 1e-2)
        for _ in range(8):
            loss = task(image, label, mode="loss")["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[finest] = loss.item()
    assert losses[2] < 0.85 * losses[16]
    assert all(p.grad is not None and p.grad.any() for key, p in net.named_parameters() if "head" in key)


@torch.no_grad()
def test_model_folder_and_prediction(tmp_path: Any, make_scan: Callable[..., Any], randomise: Randomise) -> None:
    fcn = build("vgg11_fcn", randomise, fc_channels=6, head_pool=2, fcn_stride=8)
    mt.save(fcn, tmp_path / "model", {"classes": ["background", "organ", "lesion"]})
    loaded, x = mt.load(tmp_path / "model"), torch.rand(1, 2, 33, 20, 40)
    assert torch.equal(loaded(x), fcn(x))
    predictor = mt.Predictor(tmp_path / "model", device="cpu")
    assert predictor.engine.strides == (32, 32, 32)
    scans = [str(make_scan(f"{name}.nii.gz")) for name in "ab"]
    result = predictor.predict(scans)
    assert result.labels.shape == (16, 15, 14)
    # windows of multiples of the stride see the same maps
    tiled = mt.Predictor(tmp_path / "model", device="cpu", tile=32).predict(scans)
    assert (tiled.labels.get_fdata() == result.labels.get_fdata()).mean() > 0.95


@pytest.mark.parametrize("name", ["vgg11_fcn", "resnet10"])
def test_an_encoder_around_its_stages_has_no_skips(name: str) -> None:
    small = {"base_channels": 4} if name == "vgg11_fcn" else {**RESNET, "head_type": "fcn"}
    fcn = mt.create_model(name, fcn_stride=8, **small)
    segmenter = mt.to_segmenter(fcn, num_classes=3)
    assert "fcn_stride" not in segmenter.architecture["arguments"]
    classifier = mt.to_classifier(segmenter, num_classes=4)
    assert classifier(torch.rand(2, 1, 32, 32, 32)).shape == (2, 4)
    without: Tensor = mt.create_model(name, num_classes=None, fcn_stride=8, **small)(torch.rand(2, 1, 32, 32, 32))
    assert without.shape[1] == 32
