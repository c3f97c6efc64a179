"""The Python interface from end to end on made-up data: transfer, share, save, predict. Takes seconds.

python examples/python_api.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

import medtransfer as mt


def make_scan(path: Path) -> Path:
    """A 32-voxel scan with a bright box, 1 x 1 x 2 mm."""
    data = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    data[8:20, 10:22, 12:24] += 4
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)

    # A classifier with two input channels: in real life a weight file, "resnet_18.pth".
    small = {"base_channels": 8, "stem_channels": 8, "deep_stem": True}
    classifier = mt.create_model("resnet18", in_channels=2, num_classes=4, **small)
    torch.save({"state_dict": classifier.state_dict()}, folder / "classifier.pth")
    print(mt.inspect(folder / "classifier.pth").architecture)

    # Its encoder moves into a segmenter that takes one channel and knows two classes.
    segmenter = mt.create_model("resunet18", in_channels=1, num_classes=2, full_resolution_skip=8, **small)
    report = mt.transfer(folder / "classifier.pth", segmenter, input_channels="interpolate-rescaled")
    print(report.summary())

    # The same encoder serves a classifier again: the very modules, not copies.
    again = mt.to_classifier(segmenter, num_classes=3)
    print(again.layer1 is segmenter.encoder_1[1])

    # A model folder holds the weights and what they expect of a scan; no code.
    card = {"input_channels": ["T1"], "classes": ["background", "box"], "spacing": [1.0, 1.0, 1.0]}
    mt.save(segmenter, folder / "segmenter", card)

    # The mask lies on the scan's own grid, whatever spacing the network works on.
    scan = make_scan(folder / "scan.nii.gz")
    result = mt.Predictor(folder / "segmenter").predict(scan)
    print(result.labels.shape, np.array_equal(result.labels.affine, nib.load(scan).affine))
    result.save(folder / "masks")
    print(sorted(file.name for file in (folder / "masks").iterdir()))


if __name__ == "__main__":
    main()
