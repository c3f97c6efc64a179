"""Detect the structures that a JSON list of scans and boxes names (as MONAI's for LUNA16), or those of any masks."""

_base_ = [
    "_base_/models/faster_rcnn_resnet18.py",
    "_base_/datasets/boxes.py",
    "_base_/schedules/cosine.py",
    "_base_/runtime/default.py",
]
data_root = "data/boxes.json"
model = dict(window=[128, 128, 128])  # of validation, where whole scans are too large for one pass
