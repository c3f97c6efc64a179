"""Organs, an illness and the age from scans that a CSV table lists, with one ResNet-18; cells may be empty."""

_base_ = [
    "_base_/models/multitask_resnet18.py",
    "_base_/datasets/multitask.py",
    "_base_/schedules/onecycle.py",
    "_base_/runtime/default.py",
]
data_root = "data/table.csv"
targets = dict(
    organs=dict(task="segmentation", column="mask"),
    ill=dict(task="classification"),
    age=dict(task="regression"),
)
model = dict(loss_weights=dict(organs=1.0, ill=0.5, age=0.5))
