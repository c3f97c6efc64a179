"""Several heads of one network: all results of one pass, each as if it were alone."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from medtransfer.errors import ModelError, UsageError
from medtransfer.inference.predictor import Predictor
from tests.inference.conftest import Heads, Mean, Threshold
from tests.inference.test_batch_boxes import HEADS_CARD

NONE = {"intensity": {"scheme": "none"}}


def image_of(shape: tuple[int, int, int] = (14, 9, 8)) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.random.default_rng(0).normal(size=shape).astype(np.float32), np.diag([-1, 2, 1.5, 1]))


@pytest.mark.parametrize(
    "options",
    [{"tile": "whole"}, {"tile": (6, 6, 6)}, {"tile": (6, 6, 6), "tta": True}, {"tile": "whole", "tta": True}],
)
def test_every_head_gives_what_it_would_alone(options: Any) -> None:
    image, extra = image_of(), {"mirror_axes": [0, 2]}
    network = Heads()
    predictor = Predictor(network, card={**HEADS_CARD, **extra}, **options)
    # which was tried on noise
    assert predictor.engine.lowered is None
    predictor.engine.network.calls = 0
    result = predictor.predict(image, probabilities=True)
    mask = Predictor(Threshold(), card={**NONE, **extra}, **options).predict(image, probabilities=True)
    shares = Predictor(Mean(), card={**NONE, **extra}, **options).predict(image).probabilities
    organs, ill, age = (result.heads[name] for name in ("organs", "ill", "age"))
    np.testing.assert_array_equal(organs.labels.get_fdata(), mask.labels.get_fdata())
    np.testing.assert_allclose(organs.probabilities, mask.probabilities, atol=1e-6)
    assert organs.volumes_ml == pytest.approx(dict(zip(("liver", "spleen"), mask.volumes_ml.values(), strict=True)))
    assert list(ill.probabilities.values()) == pytest.approx(list(shares.values()))
    assert age.values["years"] == pytest.approx(50 + float(ill.logits[1]), abs=1e-4)
    assert predictor.engine.network.calls == result.details["windows"] * 4 ** options.get("tta", False)


def test_heads_without_a_map_need_no_blending() -> None:
    card = {**NONE, "heads": {name: HEADS_CARD["heads"][name] for name in ("ill", "age")}, "classes": ["ill", "age"]}
    result = Predictor(Heads("ill", "age"), card=card, tile=(6, 6, 6)).predict(image_of())
    assert list(result.heads) == ["ill", "age"]
    assert result.heads["age"].values["years"] == pytest.approx(50 + float(result.heads["ill"].logits[1]))


def test_an_ensemble_averages_probabilities_and_values() -> None:
    class Older(Heads):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            found = super().forward(x)
            return {"organs": found["organs"] * 2, "ill": found["ill"] * 3, "age": found["age"] + 10}

    image = image_of()
    single = [Predictor(network, card=HEADS_CARD).predict(image, probabilities=True) for network in (Heads(), Older())]
    both = Predictor([Heads(), Older()], card=HEADS_CARD).predict(image, probabilities=True)
    for name in ("organs", "ill"):
        found = [one.heads[name].probabilities for one in (*single, both)]
        shares = [np.array(list(one.values()) if isinstance(one, dict) else one) for one in found]
        np.testing.assert_allclose(shares[2], (shares[0] + shares[1]) / 2, atol=4e-3)  # logits are kept as float16
    assert both.heads["age"].values["years"] == pytest.approx(single[0].heads["age"].values["years"] + 5)


def test_crop_is_for_masks_alone() -> None:
    card = {**NONE, "heads": {"organs": HEADS_CARD["heads"]["organs"]}, "classes": ["organs"]}
    array = np.zeros((40, 40, 40), np.float32)
    array[20:22, 20:22, 20:22] = 2
    image = nib.Nifti1Image(array, np.eye(4))
    result = Predictor(Heads("organs"), card=card, crop=True).predict(image)
    np.testing.assert_array_equal(result.heads["organs"].labels.get_fdata(), 2 * (array > 1))
    with pytest.raises(UsageError, match=r"crop is for a .*, the model is made for multitask"):
        Predictor(Heads(), card=HEADS_CARD, crop=True)


def test_outside_the_crop_every_head_shows_its_background() -> None:
    class Two(Heads):
        heads = {"organs": Heads.heads["organs"], "lesions": Heads.heads["organs"]}

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"organs": Threshold()(x), "lesions": Threshold()(-x)}

    array = np.full((40, 40, 40), 0.5, np.float32)
    array[20:22, 20:22, 20:22] = -0.5
    image = nib.Nifti1Image(array, np.eye(4))
    result = Predictor(Two(), card=NONE, crop=True).predict(image, probabilities=True)
    for head in result.heads.values():
        assert head.probabilities[0, 0, 0, 0] == pytest.approx(1)
    seen = {name: head.labels.get_fdata() for name, head in result.heads.items()}
    assert {name: labels[0, 0, 0] for name, labels in seen.items()} == {"organs": 0, "lesions": 0}
    assert {name: labels[20, 20, 20] for name, labels in seen.items()} == {"organs": 0, "lesions": 1}
    assert seen["organs"][15, 20, 20] == 1


def test_a_result_of_several_heads_says_where_they_are() -> None:
    result = Predictor(Heads(), card=HEADS_CARD).predict(image_of())
    for attribute in ("labels", "probabilities", "boxes", "logits"):
        with pytest.raises(ModelError, match=r"the model has several heads, .* Read \.heads\[name\]"):
            getattr(result, attribute)
    assert result.volumes_ml == {}
    assert list(Predictor(Heads()).card.heads["age"].classes) == ["value_0"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"classes": ["ill", "organs", "age"]}, "`heads` must be those that `classes` names"),
        ({"heads": {**HEADS_CARD["heads"], "age": {"task": "regression", "classes": ["a", "b"]}}}, "as many classes"),
        ({"heads": {"organs": HEADS_CARD["heads"]["organs"]}, "classes": ["organs"]}, "as many classes"),
    ],
)
def test_a_card_of_other_heads_is_refused(change: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Predictor(Heads(), card={**HEADS_CARD, **change})


def test_a_network_that_gives_other_heads_than_its_card_is_refused() -> None:
    network = Heads()
    network.names = ("organs", "ill")
    with pytest.raises(ModelError, match="the network gives the heads organs, ill, its card says organs, ill, age"):
        Predictor(network, card=HEADS_CARD).predict(image_of())
    network.forward = lambda x: {"organs": Threshold()(x), "ill": torch.zeros(1, 3), "age": torch.zeros(1, 1)}
    with pytest.raises(ModelError, match=r"logits of shape \(3,\) for ill, its card says \(2,\)"):
        Predictor(network, card=HEADS_CARD).predict(image_of())
    with pytest.raises(UsageError, match="change masks, the model is made for multitask"):
        Predictor(network, card=HEADS_CARD, classes=["liver"])
