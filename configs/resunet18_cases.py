"""Segment scans of any layout (Decathlon, nnU-Net raw, CSV table, BIDS) with a ResUNet-18, from scratch."""

_base_ = [
    "_base_/models/resunet18.py",
    "_base_/datasets/cases.py",
    "_base_/schedules/onecycle.py",
    "_base_/runtime/default.py",
]
data_root = "data/dataset"
