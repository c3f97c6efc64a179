"""Weights into multi-task networks, out of them, and single tasks of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.adapter.multitask import to_multitask, to_single_task
from medtransfer.errors import ModelError
from medtransfer.finetune.parts import names_of
from medtransfer.finetune.select import select
from tests.tiny_zoo import tiny_arguments

#: encoder -> the segmenter around it
PAIRS = {
    "resnet10": "resunet10",
    "vgg11": "vggunet11",
    "plain_encoder": "plain_unet",
    "resenc_encoder": "resenc_unet",
}


def build(name: str, **arguments) -> nn.Module:
    torch.manual_seed(len(name))
    return mt.create_model(name, **{**tiny_arguments(name), **arguments})


def scan(channels: int = 1) -> torch.Tensor:
    return torch.randn(1, channels, 16, 16, 16, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("encoder", PAIRS)
def test_the_encoder_moves_in_and_out(encoder):
    several = f"multitask_{encoder}"
    for source in (encoder, PAIRS[encoder], several):
        for target in (encoder, PAIRS[encoder], several):
            old, new = build(source).eval(), build(target).eval()
            with torch.no_grad():
                next(iter(old.parameters())).add_(1)
            assert mt.transfer(old, new).coverage == 1.0
            assert all(torch.equal(a, b) for a, b in zip(old.features(scan()), new.features(scan()), strict=True))


def test_decoders_move_and_last_layers_when_they_are_asked_for():
    old, new = build("multitask_resnet10"), build("multitask_resnet10")
    with torch.no_grad():
        for tensor in old.state_dict().values():
            tensor.add_(1)
    before = new.heads["ill"].head_fc.weight.clone()
    report = mt.transfer(old, new)
    assert {entry.key for entry in report.dropped} == {
        key for key in new.state_dict() if "head_fc" in key or "final_layer" in key or key.endswith((".mean", ".std"))
    }
    assert torch.equal(new.heads["ill"].head_fc.weight, before)
    assert torch.equal(new.heads["organs"].decoder_0.up.weight, old.heads["organs"].decoder_0.up.weight)
    assert not mt.transfer(old, new, head="keep").missing
    assert new.heads["age"].std == 2


def test_a_skip_at_full_resolution_sees_other_channels():
    heads = {"organs": {"task": "segmentation", "num_classes": 3, "full_resolution_skip": 4}}
    old, new = (mt.create_model("multitask_resnet10", n, heads=heads, **tiny_arguments("resnet")) for n in (1, 2))
    report = mt.transfer(old, new)
    assert {entry.key for entry in report.adapted} == {"encoder.conv1.weight", "heads.organs.input_skip.conv.weight"}


def test_one_head_moves_alone_through_a_network_of_its_own():
    segmenter, network = build("resunet10", num_classes=3), build("multitask_resnet10")
    report = mt.transfer(segmenter, to_single_task(network, "organs"), head="keep")
    assert not report.missing
    assert report.coverage == 1.0
    assert torch.equal(network.eval()(scan())["organs"], segmenter.eval()(scan()))


@pytest.mark.parametrize("encoder", PAIRS)
def test_single_tasks_compute_what_the_head_computes(encoder, tmp_path):
    network = build(f"multitask_{encoder}").eval()
    found = network(scan())
    for head in ("organs", "ill"):
        for share in (True, False):
            single = to_single_task(network, head, share)
            assert torch.equal(single(scan()), found[head])
            shared = {id(p) for p in network.parameters()} & {id(p) for p in single.parameters()}
            assert len(shared) == (len(list(single.parameters())) if share else 0)
        mt.save(single, tmp_path / head)
        assert torch.equal(mt.load(tmp_path / head)(scan()), found[head])
    with pytest.raises(ModelError, match="'age' is a regression"):
        to_single_task(network, "age")
    with pytest.raises(ModelError, match="no head 'liver': the network has the heads organs, ill, age"):
        to_single_task(network, "liver")
    with pytest.raises(ModelError, match="a Linear is no multi-task network"):
        to_single_task(nn.Linear(1, 1), "organs")


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("encoder", PAIRS)
def test_heads_are_put_on_the_encoder_of_another_network(encoder, share):
    decoder = {"aux_train": True} if encoder == "resnet10" else {}
    for name, kept in ((encoder, "ill"), (PAIRS[encoder], "organs")):
        source = build(name, num_classes=4, **(decoder if kept == "organs" else {})).eval()
        network = to_multitask(source, {kept: None, "age": {"task": "regression"}}, share=share)
        assert not network.training
        assert torch.equal(network(scan())[kept], source(scan()))
        shared = {id(p) for p in network.parameters()} & {id(p) for p in source.parameters()}
        assert len(shared) == (len(list(source.parameters())) if share else 0)
        again = mt.create_model(network.architecture["name"], **network.architecture["arguments"])
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in network.state_dict().items()
        }


def test_a_decoder_that_is_not_its_encoders_usual_one_is_described():
    segmenter = build("plain_unet", num_classes=3, decoder_block="bottleneck", upsample_type="interp")
    network = to_multitask(segmenter, {"organs": None})
    wanted = {"decoder_block": "bottleneck", "upsample_type": "interp"}
    assert wanted.items() <= network.head_arguments["organs"].items()
    again = mt.create_model(network.architecture["name"], **network.architecture["arguments"])
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(scan())["organs"], segmenter.eval()(scan()))


def test_a_multi_task_network_gets_another_head_and_keeps_some():
    network = build("multitask_resnet10")
    more = to_multitask(network, {"ill": None, "sex": {"task": "classification", "num_classes": 2}})
    assert more.heads["ill"].head_fc is network.heads["ill"].head_fc
    assert more.encoder is network.encoder
    assert mt.to_segmenter(network, num_classes=2).encoder_2 is network.encoder.layer2
    assert mt.to_classifier(network, num_classes=2).layer2 is network.encoder.layer2


def test_what_has_no_encoder_or_head_of_the_zoo_is_refused():
    with pytest.raises(ModelError, match="needs a network around a ResNet"):
        to_multitask(nn.Linear(1, 1), {"age": {"task": "regression"}})
    flat = mt.create_model("vgg11", base_channels=4, conv_cfg={"type": "Conv2d"}, fc_channels=8, head_pool=1)
    with pytest.raises(ModelError, match="'ill' cannot be that of this VGG"):
        to_multitask(flat, {"ill": None})


@pytest.mark.parametrize("encoder", PAIRS)
def test_parts_are_encoder_decoder_and_heads_without_rest(encoder):
    network = build(f"multitask_{encoder}")
    words = names_of(network)
    sizes = [len(select(network, kind)) for kind in ("encoder", "decoder", "head")]
    assert sum(sizes) == len(list(network.parameters()))
    assert {"organs", "ill", "age", "organs.decoder_0", "organs.head", "encoder_1"} <= set(words)
    assert all(name.startswith("heads.organs.") for name in select(network, "organs").names)
    mt.freeze(network, ["encoder", "organs"], norm_stats=True)
    trained = [name for name, p in network.train().named_parameters() if p.requires_grad]
    assert trained == [f"heads.{name}.head_fc.{kind}" for name in ("ill", "age") for kind in ("weight", "bias")]
    assert mt.collect_params(network, r"heads\.(ill|age)\.").names == trained
    groups = mt.param_groups(network, lr=1.0, weight_decay=0.1, layer_decay=0.5, head_lr_mult=10)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rates[id(network.heads["age"].head_fc.weight)] == 10
    assert rates[id(network.heads["organs"].decoder_0.up.weight)] == 1
    assert rates[id(next(network.encoder.parameters()))] < 0.5
