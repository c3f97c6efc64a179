"""Classifiers as fully convolutional networks: class activation volumes that average to the classifier's logits."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

import medtransfer as mt
from medtransfer.adapter.share import to_classifier, to_fcn, to_segmenter
from medtransfer.errors import ConfigError, ModelError
from medtransfer.training.tasks import Classifier, Segmenter

TINY = {"base_channels": 4, "stem_channels": 4}
VARIANTS = {
    "plain": ("resnet18", {}, (17, 20, 9)),
    "bottleneck, tutorial": ("resnet50", {"deep_stem": True, "pool": "conv"}, (16, 16, 16)),
    "medicalnet": ("resnet18", {"geometry": "medicalnet"}, (16, 17, 18)),
    "flat": ("resnet10", {"conv_cfg": {"type": "Conv2d"}, "norm_cfg": {"type": "IN", "affine": True}}, (33, 20)),
    "line": ("resnet10", {"conv_cfg": {"type": "Conv1d"}, "act_cfg": {"type": "PReLU"}}, (50,)),
    "short": ("resnet10", {"num_stages": 2, "pool": "none", "avg_down": True}, (9, 10, 11)),
    "nnU-Net, plain": ("plain_encoder", {"channels": (4, 8, 8)}, (9, 10, 11)),
    "nnU-Net, residual": ("resenc_encoder", {"channels": (4, 8, 8), "num_blocks": 1}, (9, 10, 11)),
}


def classifier_of(name="resnet10", randomise=None, **arguments):
    small = TINY if name.startswith("resnet") else {}
    network = mt.create_model(name, in_channels=2, num_classes=5, **small, **arguments)
    return (randomise(network) if randomise else network).eval()


@pytest.mark.parametrize(("name", "arguments", "size"), VARIANTS.values(), ids=VARIANTS)
def test_class_volumes_average_to_the_classifiers_logits(name, arguments, size, randomise):
    classifier = classifier_of(name, randomise, **arguments)
    fcn, x = to_fcn(classifier), torch.rand(3, 2, *size)
    coarse = fcn.head_conv(fcn.features(x)[-1])
    torch.testing.assert_close(coarse.flatten(2).mean(2), classifier(x), rtol=1e-5, atol=1e-5)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    expected = F.interpolate(coarse, size=size, mode=mode, align_corners=False)
    assert torch.equal(fcn(x), expected)
    assert fcn(x).shape == (3, 5, *size)


def test_hand_computed_logits():
    fcn = mt.create_model("resnet10", num_classes=2, head_type="fcn", **TINY).eval()
    torch.nn.init.zeros_(fcn.head_conv.weight)
    fcn.head_conv.bias.data = torch.tensor([1.5, -2.0])
    logits = fcn(torch.rand(1, 1, 16, 16, 16))
    assert logits.unique().tolist() == [-2.0, 1.5]
    assert (logits[0, 0] == 1.5).all()


def test_shared_encoder_is_the_very_one_and_a_copy_is_not():
    classifier = classifier_of()
    shared, copied = to_fcn(classifier), to_fcn(classifier, share=False)
    assert shared.layer2 is classifier.layer2
    assert shared.conv1 is classifier.conv1
    assert shared.layer2[0].conv1.weight is not copied.layer2[0].conv1.weight
    assert torch.equal(shared.layer2[0].conv1.weight, copied.layer2[0].conv1.weight)
    before = copy.deepcopy(classifier.head_fc.state_dict())
    torch.nn.init.zeros_(shared.head_conv.weight)
    assert torch.equal(classifier.head_fc.weight, before["weight"])


@pytest.mark.parametrize("arguments", [{}, {"deep_stem": True, "pool": "conv", "zero_init_residual": False}])
def test_every_tensor_but_the_heads_has_the_classifiers_key(arguments):
    classifier = classifier_of(**arguments)
    fcn = to_fcn(classifier, share=False)
    renamed = [key.replace("head_fc", "head_conv") for key in classifier.state_dict()]
    assert list(fcn.state_dict()) == renamed
    assert not any(tensor.is_meta for tensor in (*fcn.parameters(), *fcn.buffers()))
    assert fcn.training == classifier.training


def test_the_network_describes_itself_and_is_rebuilt():
    fcn = mt.create_model("resnet18", head_type="fcn", num_classes=5, deep_stem=True, **TINY)
    assert (fcn.task, fcn.num_classes, fcn.head_type) == ("segmentation", 5, "fcn")
    record = fcn.architecture
    assert record["arguments"]["head_type"] == "fcn"
    again = mt.create_model(record["name"], **record["arguments"])
    assert again.architecture == record
    assert [(k, t.shape) for k, t in again.state_dict().items()] == [(k, t.shape) for k, t in fcn.state_dict().items()]
    assert "head_type" not in classifier_of().architecture["arguments"]
    assert classifier_of().task == "classification"


def test_head_starts_small_and_every_parameter_gets_a_gradient():
    fcn = mt.create_model("resnet10", head_type="fcn", num_classes=3, zero_init_residual=False, **TINY)
    wide = mt.create_model("resnet10", head_type="fcn", num_classes=2, base_channels=32, stem_channels=4)
    assert wide.head_conv.weight.abs().max() <= 1 / 256**0.5
    fcn(torch.randn(2, 1, 16, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in fcn.parameters())


def test_segmenter_and_classifier_around_it_are_the_usual_ones():
    fcn = mt.create_model("resnet10", in_channels=2, head_type="fcn", **TINY)
    segmenter = to_segmenter(fcn, num_classes=3)
    assert segmenter.encoder_2 is fcn.layer2
    assert "head_type" not in segmenter.architecture["arguments"]
    classifier = to_classifier(segmenter, num_classes=4).eval()
    assert (classifier.head_type, classifier.task) == ("classification", "classification")
    assert classifier(torch.rand(1, 2, 16, 16, 16)).shape == (1, 4)
    assert not hasattr(classifier, "head_conv")


def test_model_folder_and_prediction(tmp_path, make_scan, randomise):
    fcn = randomise(mt.create_model("resnet10", head_type="fcn", num_classes=3, **TINY)).eval()
    card = mt.save(fcn, tmp_path / "model", {"classes": ["background", "organ", "lesion"]})
    assert card.task == "segmentation"
    loaded, x = mt.load(tmp_path / "model"), torch.rand(1, 1, 16, 15, 14)
    assert torch.equal(loaded(x), fcn(x))
    result = mt.Predictor(tmp_path / "model", device="cpu").predict(make_scan())
    assert result.labels.shape == (16, 15, 14)
    assert list(result.volumes_ml) == ["organ", "lesion"]


def test_it_trains_as_a_segmenter_and_not_as_a_classifier():
    torch.manual_seed(0)
    # two stages without pooling: an output stride of 4 tells the halves of the scan apart
    fcn = mt.create_model("resnet10", head_type="fcn", num_classes=2, num_stages=2, pool="none", **TINY)
    label = torch.zeros(2, 1, 16, 16, 16)
    label[..., 8:] = 1
    task, image = Segmenter(fcn), label + 0.1 * torch.randn(label.shape)
    optimizer = torch.optim.Adam(task.parameters(), 1e-2)
    losses = []
    for _ in range(8):
        loss = task(image, label, mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert task(image, label, ["a", "b"], mode="predict")[0]["labels"].shape == (16, 16, 16)
    with pytest.raises(ConfigError, match="trains a network for classification, got one for segmentation"):
        Classifier(fcn)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (lambda: mt.create_model("resunet10", **TINY), "got UNet. Build it"),
        (lambda: mt.create_model("resnet10", num_classes=None, **TINY), "got ResNet with head_type=None"),
        (lambda: mt.create_model("resnet10", head_type="fcn", **TINY), "got ResNet with head_type='fcn'"),
    ],
)
def test_networks_without_a_classifiers_head_are_refused(network, said):
    with pytest.raises(ModelError, match=f"to_fcn needs a classifier of the zoo, {said}"):
        to_fcn(network())


def test_an_unknown_head_is_refused():
    with pytest.raises(ModelError, match="head_type must be one of None, classification, fcn, got 'conv'"):
        mt.create_model("resnet10", head_type="conv", **TINY)
