"""nnssl's files: an encoder pretrained without labels, and what the pretraining leaves around it."""

from __future__ import annotations

from pathlib import Path

import torch

import medtransfer as mt
from medtransfer.adapter.source import read_source
from medtransfer.model_zoo.conv_encoder import ResidualEncoder
from tests.adapter.dialects.nnssl_oracle import checkpoint
from tests.adapter.dialects.nnunet_oracle import SPECS, filled


def written(path: Path, **changes: object) -> Path:
    torch.save({**checkpoint(), **changes}, path)
    return path


def test_the_adaptation_plan_tells_it_from_nnunet(tmp_path):
    weights = read_source(written(tmp_path / "a.pth"))
    assert weights.dialect == "nnssl"
    assert "pretrained without labels" in weights.home.note
    plain = {key: value for key, value in checkpoint().items() if key != "nnssl_adaptation_plan"}
    torch.save(plain, tmp_path / "b.pth")
    assert read_source(tmp_path / "b.pth").dialect == "nnunet"
    # weights alone, when it is known what they are
    torch.save(plain, tmp_path / "c.pth")
    assert read_source(tmp_path / "c.pth", dialect="nnssl").home.name == "resenc_unet"


def test_the_card_says_what_the_pretraining_saw_and_names_no_classes(tmp_path):
    facts = read_source(written(tmp_path / "a.pth")).facts
    assert facts == {"spacing": [1.0, 1.0, 1.0], "intensity": {"scheme": "zscore", "nonzero": False},
                     "patch_size": [160, 160, 160]}  # fmt: skip


def test_its_preset_is_the_zoos_default_encoder():
    """``architecture_registry.get_res_enc_l``: six stages."""
    with torch.device("meta"):
        network = mt.create_model("resenc_unet_l")
        theirs = ResidualEncoder(1, channels=[32, 64, 128, 256, 320, 320], num_blocks=[1, 3, 4, 6, 6, 6])
    ours = {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(p.numel() for stage in network.stages() for p in stage.parameters()) == sum(
        torch.Size(shape).numel() for shape in ours.values()
    )


def test_a_masked_convolutional_network_gives_its_encoder(tmp_path):
    """SparK3D refers to the parts of its architecture again, and has tokens and projections of its own."""
    state = filled(SPECS["residual"])
    spark = {f"architecture.{key}": value for key, value in state.items()} | state
    spark |= {"mask_tokens.0": torch.zeros(1, 4, 1, 1, 1), "densify_projs.1.weight": torch.zeros(8, 8, 3, 3, 3)}
    path = written(tmp_path / "spark.pth", network_weights=spark)
    weights = read_source(path)
    assert (len(weights.tensors), len(weights.unread)) == (66 + 2, 2 * 224 - 66)
    encoder = mt.create_model("resenc_encoder", channels=[4, 8, 16], num_blocks=[1, 2, 2], num_classes=5)
    report = mt.transfer(path, encoder)
    assert report.coverage == 1
    assert {"mask_tokens.0", "densify_projs.1.weight"} < {entry.source_key for entry in report.unexpected}


def test_a_decoder_without_skips_is_left_away(tmp_path):
    """NoSkipResEncL: the decoder takes the lowest map alone."""
    state = filled(SPECS["residual"])
    for key, value in state.items():
        if (
            ".stages." in key
            and key.startswith("decoder.stages")
            and key.endswith((".0.conv.weight", "_modules.0.weight"))
        ):
            state[key] = value[:, : value.shape[1] // 2]
    home = read_source(written(tmp_path / "a.pth", network_weights=state)).home
    assert (home.name, home.arguments["num_classes"]) == ("resenc_encoder", None)
    encoder = mt.create_model(home.name, **home.arguments)
    assert mt.transfer(tmp_path / "a.pth", encoder).coverage == 1


def test_a_plan_of_anything_else_does_no_harm(tmp_path):
    for i, plan in enumerate(({}, {"pretrain_plan": 3}, {"pretrain_plan": {"configurations": {"a": {}}}},
                              {"architecture_plans": "x", "recommended_downstream_patchsize": "big"})):  # fmt: skip
        weights = read_source(written(tmp_path / f"{i}.pth", nnssl_adaptation_plan=plan))
        assert weights.home.name == "resenc_unet"
        assert weights.facts == {}
