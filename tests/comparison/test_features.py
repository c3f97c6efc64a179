"""Linear CKA against its definition, and what is reported of an encoder."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.comparison import features
from medtransfer.comparison.features import feature_report, linear_cka
from medtransfer.errors import ModelError, UsageError
from tests.tiny_zoo import tiny_arguments


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def images():
    return [torch.randn(1, 1, 16, 16, 16), torch.randn(1, 1, 12, 16, 20)]


def tiny(name="resunet10", **arguments):
    return mt.create_model(name, in_channels=1, num_classes=2, **{**tiny_arguments(name), **arguments})


def hsic_cka(x, y):
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with linear kernels, HSIC = trace(K H L H)."""
    x, y, size = x.double(), y.double(), len(x)
    centring = torch.eye(size, dtype=torch.float64) - 1 / size
    k, other = x @ x.T, y @ y.T

    def hsic(a, b):
        return torch.trace(a @ centring @ b @ centring)

    return float(hsic(k, other) / (hsic(k, k) * hsic(other, other)).sqrt())


@pytest.mark.parametrize("samples, p, q", [(40, 5, 7), (6, 20, 3), (9, 30, 40)])
def test_cka_is_normalised_hsic(samples, p, q):
    x = torch.randn(samples, p) + 3
    y = torch.randn(samples, q) + x[:, :1]
    assert linear_cka(x, y) == pytest.approx(hsic_cka(x, y), rel=1e-9)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))


def test_cka_does_not_see_turns_scales_and_shifts_but_other_maps():
    x = torch.randn(200, 6)
    turn, _ = torch.linalg.qr(torch.randn(6, 6))
    assert linear_cka(x, -3 * x @ turn + 5) == pytest.approx(1, abs=1e-6)
    assert linear_cka(x, x * torch.tensor([1, 1, 1, 1, 1, 50.0])) < 0.7
    assert linear_cka(x, torch.randn(200, 6)) < 0.2


def test_cka_of_features_that_do_not_vary_is_nothing_in_common():
    assert linear_cka(torch.randn(9, 3), torch.full((9, 2), 4.0)) == 0


@pytest.mark.parametrize("x, y", [(torch.ones(3, 2), torch.ones(4, 2)), (torch.ones(3), torch.ones(3, 2))])
def test_cka_of_other_samples_is_refused(x, y):
    with pytest.raises(UsageError, match="the same samples"):
        linear_cka(x, y)


@pytest.mark.parametrize(
    "name, stages",
    [
        ("resunet10", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("resnet10", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("resenc_unet", ["stage0", "stage1", "stage2"]),
    ],
)
def test_an_unchanged_encoder_has_not_drifted(name, stages, images):
    network = tiny(name).train()
    drift, dead = feature_report(copy.deepcopy(network), network, images)
    assert drift == pytest.approx(dict.fromkeys(stages, 1.0))
    assert list(dead) == stages


def test_drift_begins_at_the_stage_that_changed(images):
    before = tiny()
    after = copy.deepcopy(before)
    with torch.no_grad():
        for weight in after.encoder_2.parameters():
            weight.copy_(torch.randn_like(weight))
    drift, _ = feature_report(before, after, images)
    assert drift["stem"] == drift["layer1"] == pytest.approx(1)
    assert max(drift["layer2"], drift["layer3"]) < 0.99


def test_dead_channels_are_counted(images):
    network = tiny()
    with torch.no_grad():
        norm = network.encoder_0[1] if isinstance(network.encoder_0, nn.Sequential) else network.encoder_0.bn1
        norm.weight[0], norm.bias[0] = 0, 7  # always 7 behind the ReLU
        norm.weight[1], norm.bias[1] = 1, -1000  # always 0 behind it
    _, dead = feature_report(None, network, images)
    assert dead["stem"] == 0.5
    assert feature_report(None, network, images)[0] is None


def test_a_channel_that_differs_between_images_only_is_alive():
    stage = features._Stage()
    for values in ((1, 3, 5), (3, 1, 5 + 1e-6), (1, 3, 5)):
        stage.add(torch.tensor(values)[None, :, None, None, None].expand(1, 3, 2, 2, 2), 8)
    assert stage.dead_share() == pytest.approx(1 / 3)


def test_modes_and_statistics_are_as_they_were(images):
    network = tiny().train()
    network.encoder_1.eval()
    modes = [module.training for module in network.modules()]
    state = copy.deepcopy(network.state_dict())
    feature_report(network, network, images)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_modes_are_restored_after_an_error():
    network = tiny().train()
    with pytest.raises(RuntimeError):
        feature_report(None, network, [torch.randn(1, 3, 8, 8, 8)])
    assert network.training


def test_a_network_in_bfloat16_is_looked_at_in_its_own_type(images):
    before = tiny().bfloat16()
    drift, dead = feature_report(before, copy.deepcopy(before), images)
    assert drift["stem"] == pytest.approx(1)
    assert set(dead) == set(drift)


def test_positions_are_thinned(images, monkeypatch):
    monkeypatch.setattr(features, "MAX_SAMPLES", 100)
    (stem, *_, last) = features._look(tiny().eval(), images, 5)
    assert [len(part) for part in stem.samples] == [50, 50]
    assert [len(part) for part in last.samples] == [1, 1]


def test_what_cannot_be_compared_is_said(images):
    with pytest.raises(UsageError, match="at least one image"):
        feature_report(None, tiny(), [])
    with pytest.raises(ModelError, match="two encoders with the stages"):
        feature_report(nn.Conv3d(1, 2, 3), tiny(), images)
    with pytest.raises(ModelError, match="different sizes"):
        feature_report(tiny("resnet10", first_stride=1), tiny("resnet10"), images)
    assert feature_report(nn.Conv3d(1, 2, 3), nn.Conv3d(1, 2, 3), images) == ({}, {})
