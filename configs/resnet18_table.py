"""Classify scans that a CSV table lists, with a ResNet-18."""

_base_ = [
    "_base_/models/resnet18.py",
    "_base_/datasets/table.py",
    "_base_/schedules/onecycle.py",
    "_base_/runtime/default.py",
]
data_root = "data/table.csv"
patch_size = [64, 64, 64]
