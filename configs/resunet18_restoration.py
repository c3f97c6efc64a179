"""Learn from scans without labels: a ResUNet-18 restores patches of which most is hidden. A source for transfer=."""

_base_ = [
    "_base_/models/resunet18.py",
    "_base_/datasets/scans.py",
    "_base_/schedules/onecycle.py",
    "_base_/runtime/default.py",
]
model = dict(type="Restorer")
data_root = "data/Task04_Hippocampus"
patch_size = [48, 64, 48]
train_cfg = dict(max_epochs=40, val_interval=10)
