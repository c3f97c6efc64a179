"""Rankings of tiny sources over small datasets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import medtransfer as mt
from medtransfer.data.preprocessing import Preprocessing
from medtransfer.errors import DatasetError, TransferError, UsageError, VolumeError
from medtransfer.ranking import rank, samples
from medtransfer.ranking.contenders import build_contender, read_names
from medtransfer.ranking.rank import rank_sources
from tests.conftest import TINY


@pytest.fixture(scope="module")
def ranking(decathlon, sources):
    """Three sources for the segmentation; computed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "TOTAL_VOXELS", 60)
        patch.setattr(rank, "HALVES", 20)
        patch.setattr(rank, "UNTRAINED", 1)
        return rank_sources(decathlon, sources)


def test_sources_are_in_order_and_one_that_sees_nothing_is_last(ranking):
    scores = [rated.score for rated in ranking.sources]
    assert scores == sorted(scores, reverse=True)
    last = ranking.sources[-1]
    assert (last.name, last.h_score, last.probability_better_than_untrained) == ("blind", 0, 0)
    assert any(caution.startswith("hardly better") and "blind" in caution for caution in ranking.cautions)
    assert ranking.best.probability_best + ranking.sources[1].probability_best == 1


def test_intervals_hold_their_scores_and_probabilities_are_shares(ranking):
    for rated in [*ranking.sources, *ranking.untrained]:
        assert rated.interval[0] - 1e-9 <= rated.score <= rated.interval[1] + 1e-9, rated
        assert rated.h_score_interval[0] - 1e-9 <= rated.h_score <= rated.h_score_interval[1] + 1e-9
    assert sum(rated.probability_best for rated in ranking.sources) == pytest.approx(1)


def test_each_source_is_prepared_for_by_its_card_or_the_default_and_that_is_said(ranking):
    by_name = {rated.name: rated for rated in ranking.sources}
    assert by_name["folder"].preprocessing == {
        "orientation": "LPS",
        "spacing": (1.0, 1.0, 1.0),
        "intensity": {"scheme": "clip", "nonzero": False, "low": -2.0, "high": 5.0},
    }
    assert "folder: model_folder, resnet keys; prepared by its card (LPS, 1x1x1 mm, clip)" in str(ranking)
    assert by_name["colour"].notes == ["3 -> 1 input channels by 'interpolate'"]


def test_a_plain_file_has_the_default_preprocessing(tmp_path):
    torch.save(mt.create_model("resnet10", 1, 2, **TINY).state_dict(), tmp_path / "plain.pth")
    contender = build_contender("a", tmp_path / "plain.pth", ["T1"])
    assert (contender.preprocessing, contender.preprocessing_from) == (
        Preprocessing(), "default: z-score, no resampling",
    )  # fmt: skip


def test_untrained_networks_are_shared_by_sources_of_one_build(ranking):
    names = {rated.name for rated in ranking.untrained}
    assert names == {"untrained, as colour, blind", "untrained, as folder"}


def test_the_text_and_the_document_say_the_same(ranking):
    document = json.loads(json.dumps(ranking.to_dict()))
    assert [rated["name"] for rated in document["sources"]] == [rated.name for rated in ranking.sources]
    assert document["classes"] == {"background": 6, "box": 6}
    text = str(ranking)
    assert f"{ranking.best.score:.3f}" in text
    assert ranking.advice in text
    assert all(caution in text for caution in ranking.cautions)
    assert any("6 patients only" in caution for caution in ranking.cautions)


@pytest.mark.usefixtures("quick")
def test_a_classification_is_scored_by_cases_and_resampled_by_patients(table, sources):
    found = rank_sources(table, {"folder": sources["folder"], "blind": sources["blind"]}, seed=3)
    assert (found.task, found.samples, found.cases, found.patients, found.stages) == (
        "classification", 10, 10, 5, "deepest",
    )  # fmt: skip
    assert found.best.name == "folder"
    again = rank_sources(table, {"folder": sources["folder"], "blind": sources["blind"]}, seed=3)
    assert again.to_dict() == found.to_dict()


@pytest.mark.usefixtures("quick")
def test_few_cases_are_chosen_in_turn_from_each_class(table, sources):
    found = rank_sources(table, [sources["folder"]], cases=2, stages="all")
    assert found.classes == {"rough": 1, "smooth": 1}
    assert found.best.interval is None
    assert "No source is surely better" in found.advice
    assert any("too few patients" in caution for caution in found.cautions)


def test_a_source_computes_what_it_computes_in_its_own_network(sources):
    network = mt.load(sources["folder"])
    contender = build_contender("a", sources["folder"], ["MRI"])
    scan = torch.randn(1, 1, 32, 32, 32)
    for one, other in zip(network.eval().features(scan), contender.module.features(scan), strict=True):
        assert torch.equal(one, other)
    assert not contender.module.training
    assert not any(parameter.requires_grad for parameter in contender.module.parameters())


@pytest.mark.parametrize("name", ["resunet10", "vgg11", "plain_unet"])
def test_networks_of_every_kind_are_rebuilt_without_what_the_data_decide(name, tmp_path):
    small = TINY if "res" in name else {"base_channels": 4} if "vgg" in name else {"channels": [4, 8]}
    mt.save(mt.create_model(name, 2, 5, **small), tmp_path / "net", {"patch_size": [8, 8, 16]})
    contender = build_contender("a", tmp_path / "net", ["T1"])
    assert (contender.network, contender.coverage, contender.patch_size) == (name, 1.0, (8, 8, 16))
    assert len(contender.module.features(torch.zeros(1, 1, 64, 64, 64))) > 1
    one, other, same = (contender.untrained(seed).state_dict() for seed in (0, 1, 0))
    key = next(key for key, tensor in one.items() if tensor.ndim > 2)
    assert torch.equal(one[key], same[key])
    assert not torch.equal(one[key], other[key])


def test_flat_weights_are_inflated(tmp_path):
    flat = mt.create_model("resnet10", 3, 2, conv_cfg={"type": "Conv2d"}, norm_cfg={"type": "BN2d"}, **TINY)
    mt.save(flat, tmp_path / "flat", {"spacing": [1.0, 1.0], "patch_size": [8, 8]})
    contender = build_contender("a", tmp_path / "flat", ["T1"])
    assert contender.module.ndim == 3
    assert contender.notes[0].startswith("2-D kernel 7x7 to 7x7x7 by 'mean'")
    assert (contender.preprocessing.spacing, contender.patch_size) == (None, None)
    assert contender.preprocessing_from == "its card"


def test_parts_that_the_source_lacks_are_told(decathlon, sources, tmp_path, quick):
    state = mt.create_model("resnet10", 1, 2, **TINY).state_dict()
    del state["layer1.0.bn1.weight"]
    torch.save(state, tmp_path / "part.pth")
    found = rank_sources(decathlon, [tmp_path / "part.pth"], cases=2)
    assert 0.99 < found.best.coverage < 1
    assert any("random weights, since the source" in caution for caution in found.cautions)


def test_names():
    assert list(read_names({"a": "x.pth"})) == ["a"]
    assert read_names(["b=x=y.pth"]) == {"b": Path("x=y.pth")}
    for sources, said in [([], "no source"), (["a=x", "a=y"], "called 'a'"), (["x.pth", "x.pth"], "called 'x.pth'")]:
        with pytest.raises(UsageError, match=said):
            read_names(sources)


def test_what_is_refused(decathlon, sources, tmp_path, quick):
    torch.save({"embedding.weight": torch.zeros(3, 4)}, tmp_path / "other.pth")
    with pytest.raises(TransferError, match="no network of the zoo"):
        rank_sources(decathlon, [tmp_path / "other.pth"])
    for options, said in [({"cases": 1}, "at least 2"), ({"stages": "last"}, "auto, all or deepest")]:
        with pytest.raises(UsageError, match=said):
            rank_sources(decathlon, [sources["blind"]], **options)
    with pytest.raises(DatasetError, match="holds no dataset"):
        rank_sources(tmp_path, [sources["blind"]])


def test_warnings_about_the_dataset_are_one_line(table, sources, tmp_path, quick):
    rows = [f"{table.parent}/scan_{number}.nii.gz,{label}" for number, label in ((0, "smooth"), (2, "rough"))]
    (tmp_path / "two.csv").write_text("\n".join(["image,label", *rows]))
    found = rank_sources(tmp_path / "two.csv", [sources["blind"]])
    assert found.cautions[-1] == "class 'rough' has one case only (and 1 more warnings about the dataset)"


def test_one_class_only_and_a_damaged_scan(table, sources, tmp_path, quick):
    rows = table.read_text().splitlines()
    folder = table.parent
    smooth = [f"{folder}/{row}" for row in rows[1:] if "smooth" in row]
    (tmp_path / "one.csv").write_text("\n".join([rows[0], *smooth]))
    with pytest.raises(DatasetError, match="nothing to tell apart"):
        rank_sources(tmp_path / "one.csv", [sources["blind"]])
    (tmp_path / "cut.nii.gz").write_bytes((folder / "scan_0.nii.gz").read_bytes()[:500])
    all_rows = [f"{folder}/{row}" for row in rows[1:]]
    (tmp_path / "cut.csv").write_text("\n".join([rows[0], *all_rows, "cut.nii.gz,rough,p9"]))
    with pytest.raises(VolumeError, match=r"cut\.nii\.gz"):
        rank_sources(tmp_path / "cut.csv", [sources["blind"]])


def test_features_that_are_not_finite_are_refused(decathlon, sources, tmp_path, quick):
    network = mt.load(sources["folder"])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1e12)
    mt.save(network, tmp_path / "huge")
    with pytest.raises(mt.MedTransferError, match="not finite"):
        rank_sources(decathlon, [tmp_path / "huge"], cases=2)


@pytest.mark.parametrize(
    "name, arguments",
    [("faster_rcnn_resnet10", {"num_classes": 2, "out_channels": 8}), ("multitask_resnet10", {"heads": "one"})],
)
def test_of_a_detector_or_several_heads_the_encoder_is_taken(name, arguments, tmp_path):
    heads = {"ill": {"task": "classification", "num_classes": 2}}
    arguments = {**arguments, "heads": heads} if "heads" in arguments else {**arguments, "box_head_size": 8}
    mt.save(mt.create_model(name, 1, **TINY, **arguments), tmp_path / "folder")
    contender = build_contender("a", tmp_path / "folder", ["T1"])
    assert (contender.network, contender.coverage) == ("resnet10", 1.0)


def test_boxes_alone_are_refused_before_anything_is_computed(decathlon, sources, tmp_path):
    scan = next((decathlon / "imagesTr").glob("*.nii*"))
    (tmp_path / scan.name).write_bytes(scan.read_bytes())
    entry = {"image": scan.name, "box": [[1, 1, 1, 2, 2, 2]], "label": [0]}
    (tmp_path / "boxes.json").write_text(json.dumps({"box_space": "voxel", "training": [entry]}))
    with pytest.raises(DatasetError, match=r"is for detection, features are ranked for masks or classes"):
        rank_sources(tmp_path / "boxes.json", sources)
