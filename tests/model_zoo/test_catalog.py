"""Names to networks: every name builds, is rebuilt from its record, and says what it is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.errors import ModelError
from medtransfer.model_zoo import ResNet, UNet
from medtransfer.model_zoo.encoder import Encoder
from medtransfer.model_zoo.names import MODEL_NAMES
from tests.tiny_zoo import single_outputs, tiny_arguments

TINY = {"base_channels": 4, "stem_channels": 4}
DEPTHS = (10, 18, 34, 50, 101, 152, 200)

#: arguments that change the keys or the shapes, alone and together
VARIANTS = {
    "plain": {},
    "tutorial": {"deep_stem": True, "pool": "conv", "conv_cfg": {"type": "Conv3d"}, "norm_cfg": {"type": "BN3d"}},
    "flat": {"conv_cfg": {"type": "Conv2d"}, "norm_cfg": {"type": "IN", "affine": True}},
    "groups": {"norm_cfg": {"type": "GN", "num_groups": 1}, "act_cfg": {"type": "PReLU"}, "deep_stem": True},
    "anisotropic": {"first_stride": (1, 2, 2), "pool_stride": (1, 2, 2), "strides": (1, (1, 2, 2), 2, 2)},
    "medicalnet": {"geometry": "medicalnet"},
    "short": {"num_stages": 2, "pool": "none", "avg_down": True, "style": "caffe"},
}
DECODERS = {
    "deep supervision": {"aux_train": True, "upsample_type": "interp", "decoder_block": "basic"},
    "full resolution": {"full_resolution_skip": 4, "dropout_rate": 0.5},
}


def shapes(network: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(key, tensor.shape) for key, tensor in network.state_dict().items()]


def rebuilt(network: nn.Module) -> nn.Module:
    record = json.loads(json.dumps(network.architecture))
    return mt.create_model(record["name"], **record["arguments"])


def test_names_are_the_contracts_and_patterns_choose_among_them():
    assert mt.list_models()[:14] == [f"{family}{depth}" for family in ("resnet", "resunet") for depth in DEPTHS]
    assert mt.list_models("resenc_*") == [
        f"resenc_{kind}" for kind in ("encoder", "unet", "unet_m", "unet_l", "unet_xl")
    ]
    assert mt.list_models("res*18") == ["resnet18", "resunet18"]
    assert mt.list_models("vit*") == []


@pytest.mark.parametrize("name", single_outputs())
def test_every_name_is_rebuilt_from_its_record_and_describes_itself(name):
    network = mt.create_model(name, in_channels=3, num_classes=5, **tiny_arguments(name))
    again = rebuilt(network)
    # a name that stands for arguments of a family is written out in them
    family, implied = MODEL_NAMES[name]
    assert network.architecture["name"] == (name.removesuffix("_fcn") if "depth" in implied else family)
    assert shapes(again) == shapes(network)
    assert again.architecture == network.architecture
    assert again.output_stride == network.output_stride
    assert (network.in_channels, network.num_classes, network.ndim) == (3, 5, 3)
    segments = "unet" in name or "fcn" in name
    assert network.task == ("segmentation" if segments else "classification")
    assert isinstance(network, UNet if "unet" in name else Encoder)
    assert not any(
        hasattr(module, "init_weights") for module in network.modules() if "mmcv" not in type(module).__module__
    )


@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resunet18", "resunet50"])
def test_every_variant_is_rebuilt_with_the_same_tensors(name, arguments):
    network = mt.create_model(name, **TINY, **arguments)
    again = rebuilt(network)
    record = network.architecture["arguments"]
    assert {key: record[key] for key in arguments} == json.loads(json.dumps(arguments))
    assert shapes(again) == shapes(network)
    assert again.architecture == network.architecture
    assert again.output_stride == network.output_stride


@pytest.mark.parametrize("arguments", DECODERS.values(), ids=DECODERS)
def test_every_decoder_is_rebuilt_with_the_same_tensors(arguments):
    network = mt.create_model("resunet10", **TINY, **arguments)
    assert shapes(rebuilt(network)) == shapes(network)
    for name, value in arguments.items():
        assert network.architecture["arguments"][name] == value


@pytest.mark.parametrize("block", ["BasicBlock", "Bottleneck"])
def test_a_decoder_block_given_as_a_class_is_rebuilt_by_its_name(block):
    from medtransfer.model_zoo import blocks

    encoder = ResNet(10, in_channels=1, **TINY)
    network = UNet.around(encoder, num_classes=2, decoder_block=getattr(blocks, block))
    assert shapes(rebuilt(network)) == shapes(network)


def test_a_record_that_the_caller_changes_is_a_copy():
    network = mt.create_model("resunet10", strides=[1, 1, 2, 2], **TINY)
    network.architecture["arguments"]["strides"][0] = 9
    assert network.architecture["arguments"]["strides"] == [1, 1, 2, 2]


def test_no_classes_leave_the_head_away():
    network = mt.create_model("resnet10", num_classes=None, **TINY)
    assert network.num_classes is None
    assert not any(key.startswith("head") for key in network.state_dict())
    assert shapes(rebuilt(network)) == shapes(network)


BAD = {
    "unknown name": (("resnet19",), {}, ["resnet19", "resnet18", "resnet10"]),
    "unknown argument": (("resnet10",), {"deepstem": True}, ["deepstem", ". Did you mean deep_stem?"]),
    "decoder argument of a classifier": (("resnet10",), {"upsample_type": "interp"}, ["upsample_type"]),
    "style": (("resnet50",), {"style": "tensorflow"}, ["style", "pytorch", "caffe", "'tensorflow'"]),
    "pool": (("resnet10",), {"pool": "avg"}, ["pool", "max, conv, none", "'avg'"]),
    "shortcut": (("resnet10",), {"shortcut": "C"}, ["shortcut", "A, B", "'C'"]),
    "geometry": (("resnet10",), {"geometry": "medical"}, ["geometry", "medicalnet", "'medical'"]),
    "head": (("resnet10",), {"head_type": "regression"}, ["head_type", "classification"]),
    "stages": (("resnet10",), {"num_stages": 5}, ["num_stages", "1, 2, 3, 4", "5"]),
    "strides too few": (("resnet10",), {"strides": (1, 2)}, ["strides needs 4", "[1, 2]"]),
    "dilations too few": (("resnet10",), {"dilations": (1,)}, ["dilations needs 4", "[1]"]),
    "stride of two axes": (("resnet10",), {"strides": (1, (2, 2), 2, 2)}, ["3 of them in 3-D", "[2, 2]"]),
    "stride of zero": (("resnet10",), {"first_stride": 0}, ["stride is a positive number"]),
    "no input": (("resnet10",), {"in_channels": 0}, ["in_channels", "positive", "0"]),
    "no width": (("resnet10",), {"base_channels": -4}, ["base_channels", "positive", "-4"]),
    "no classes": (("resnet10",), {"num_classes": 0}, ["num_classes", "positive"]),
    "no classes of a segmenter": (("resunet10",), {"num_classes": None}, ["segmenter needs num_classes"]),
    "stem too narrow": (("resnet10",), {"stem_channels": 1, "deep_stem": True}, ["deep_stem", "at least 2"]),
    "frozen too many": (("resnet10",), {"frozen_stages": 5}, ["frozen_stages", "-1 to 4", "5"]),
    "frozen below": (("resunet10",), {"frozen_stages": -2}, ["frozen_stages", "-1 to 4", "-2"]),
    "index below": (("resnet10",), {"out_indices": (-1,)}, ["out_indices", "0 to 3", "[-1]"]),
    "expansion": (("resnet10",), {"expansion": 2}, ["expansion", "basic"]),
    "shortcut A that narrows": (("resnet10",), {"shortcut": "A", "stem_channels": 8}, ["shortcut='A'", "8 to 4"]),
    "convolution": (("resnet10",), {"conv_cfg": {"type": "Conv3dd"}}, ["conv_cfg", "'Conv3dd'", "Conv3d"]),
    "convolution without a type": (("resnet10",), {"conv_cfg": {"bias": True}}, ["conv_cfg needs the key 'type'"]),
    "convolution without a dimension": (("resnet10",), {"conv_cfg": {"type": "ConvAWS"}}, ["conv_cfg", "dimension"]),
    "transposed": (("resnet10",), {"conv_cfg": {"type": "ConvTranspose3d"}}, ["conv_cfg", "ConvTranspose3d"]),
    "norm": (("resnet10",), {"norm_cfg": {"type": "BatchNorm"}}, ["norm_cfg", "'BatchNorm'"]),
    "norm of another dimension": (("resnet10",), {"norm_cfg": {"type": "BN2d"}}, ["norm_cfg", "2-D", "3-D", "BN3d"]),
    "layer norm": (("resnet10",), {"norm_cfg": {"type": "LN"}}, ["norm_cfg", "'LN'"]),
    "norm of no groups": (("resnet10",), {"norm_cfg": {"type": "GN"}}, ["norm_cfg", "num_groups"]),
    "groups that do not divide": (
        ("resnet10",),
        {"norm_cfg": {"type": "GN", "num_groups": 3}},
        ["norm_cfg", "divisible"],
    ),
    "unknown norm argument": (("resnet10",), {"norm_cfg": {"type": "BN", "affin": True}}, ["norm_cfg", "affin"]),
    "activation": (("resnet10",), {"act_cfg": {"type": "LeekyReLU"}}, ["act_cfg", "'LeekyReLU'", "LeakyReLU"]),
    "activation argument": (("resnet10",), {"act_cfg": {"type": "ReLU", "slope": 1}}, ["act_cfg", "slope"]),
    "upsampling": (
        ("resunet10",),
        {"upsample_type": "nearest"},
        ["upsample_type", "'deconv' or 'interp'", "'nearest'"],
    ),
    "decoder block": (("resunet10",), {"decoder_block": "dense"}, ["decoder_block", "basic, bottleneck", "'dense'"]),
}


@pytest.mark.parametrize("positional, arguments, said", BAD.values(), ids=BAD)
def test_a_bad_argument_is_named_with_the_valid_values(positional, arguments, said):
    with pytest.raises(ModelError) as caught:
        mt.create_model(*positional, **{**TINY, **arguments})
    for words in said:
        assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert not str(caught.value).endswith(("?.", ".."))


@pytest.mark.parametrize("depth", [19, "18", None])
def test_a_depth_that_does_not_exist_is_named_with_those_that_do(depth):
    with pytest.raises(ModelError, match=r"depth must be one of 10, 18, 34, 50, 101, 152, 200, got"):
        ResNet(depth)


@pytest.mark.parametrize("kind", ["this", "antigravity", "os", "subprocess.Popen"])
@pytest.mark.parametrize("config", ["conv_cfg", "norm_cfg", "act_cfg"])
def test_a_layer_type_never_imports_a_module_of_that_name(config, kind):
    """mmengine's Registry.get does; an architecture record comes from files."""
    for name in ("this", "antigravity"):
        sys.modules.pop(name, None)
    with pytest.raises(ModelError, match=f"{config} names the unknown type"):
        mt.create_model("resnet10", **{config: {"type": kind}})
    assert not {"this", "antigravity"} & set(sys.modules)


def test_listing_the_names_imports_no_torch():
    code = "import sys, medtransfer as mt; mt.list_models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
