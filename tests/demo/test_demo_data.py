"""The demo's data: labelled as said, in place in space, and nothing of the held-out part where training looks."""

from __future__ import annotations

import csv
from importlib import util

import nibabel as nib
import numpy as np
import pytest

from medtransfer.data.decathlon import find_decathlon
from medtransfer.data.table import find_table
from medtransfer.demo import template as template_module
from medtransfer.demo.cases import HELD_OUT_FROM, LABELLED, VALIDATED, write_data
from medtransfer.demo.template import CLASSES, Template, label_tissue, read_template
from medtransfer.errors import MissingExtraError

needs_nilearn = pytest.mark.skipif(util.find_spec("nilearn") is None, reason="the extra 'demo' is not installed")


@pytest.fixture(scope="module")
def template(small_template) -> Template:
    return small_template


@pytest.fixture(scope="module")
def data(template, tmp_path_factory):
    return write_data(template, tmp_path_factory.mktemp("demo") / "data", patches=24)


def test_every_patch_shows_its_class_at_its_centre_and_lies_below_the_held_out_part(data, template):
    rows = list(csv.DictReader(data.patches.open()))
    assert len(rows) == 24
    assert {row["split"] for row in rows} == {"train", "val"}
    for row in rows:
        patch = nib.load(data.patches.parent / row["image"])
        offset = np.rint(np.linalg.inv(template.affine) @ patch.affine)[:3, 3].astype(int)
        centre = offset + np.array(patch.shape) // 2
        assert CLASSES[template.labels[tuple(centre)]] == row["label"]
        assert offset[2] + patch.shape[2] <= VALIDATED.start
        box = tuple(slice(start, start + size) for start, size in zip(offset, patch.shape, strict=True))
        np.testing.assert_array_equal(np.asanyarray(patch.dataobj), template.image[box])


def test_labelled_validated_and_held_out_slices_do_not_meet(data, template):
    cases = {case.id: case for case in find_decathlon(data.tissue).checked().cases}
    spans = {}
    for name, case in cases.items():
        image, label = nib.load(case.images[0]), nib.load(case.label)
        start = round(float(image.affine[2, 3] - template.affine[2, 3]))
        spans[name] = range(start, start + image.shape[2])
        np.testing.assert_array_equal(image.affine, label.affine)
        np.testing.assert_array_equal(
            np.asanyarray(label.dataobj), template.labels[:, :, start : start + label.shape[2]]
        )
    assert set(spans["labelled_slices"]) == set(range(LABELLED.start, LABELLED.stop))
    assert max(spans["labelled_slices"]) < min(spans["validation_slices"])
    assert max(spans["validation_slices"]) < HELD_OUT_FROM < template.image.shape[2]


def test_the_data_room_reads_both_layouts(data):
    assert find_decathlon(data.tissue).checked().classes == CLASSES
    assert set(find_table(data.patches).checked().classes) == set(CLASSES)


def test_tissue_is_the_likeliest_inside_the_brain():
    image = np.array([0, 5, 5, 5, 5])
    grey, white = np.array([255, 0, 128, 100, 130]), np.array([0, 0, 127, 155, 0])
    assert label_tissue(image, grey, white).tolist() == [0, 1, 2, 3, 2]


@needs_nilearn
def test_the_template_is_the_brain_that_the_page_speaks_of():
    template = read_template()
    assert template.image.shape == template.labels.shape == (197, 233, 189)
    assert nib.aff2axcodes(template.affine) == ("R", "A", "S")
    litres = np.bincount(template.labels.ravel())[1:] / 1e6
    # grey about 1.1 l, white about 0.6 l: an adult brain
    assert litres == pytest.approx([0.160, 1.091, 0.636], abs=0.002)
    means = [float(template.image[template.labels == label].mean()) for label in (1, 2, 3)]
    assert means == sorted(means), "in T1, fluid is dark and white matter bright"


@needs_nilearn
def test_nilearn_itself_is_not_imported(python_code):
    assert python_code(
        "import sys; from medtransfer.demo.template import read_template; read_template(); "
        "sys.exit(any(name in sys.modules for name in ('nilearn', 'torch')))"
    )


def test_e15_without_nilearn_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(template_module.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'medtransfer\[demo\]'"):
        read_template()
