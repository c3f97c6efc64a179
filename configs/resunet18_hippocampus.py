"""Segment the two parts of the hippocampus (Decathlon Task04) with a ResUNet-18, from scratch, in 500 steps."""

_base_ = [
    "_base_/models/resunet18.py",
    "_base_/datasets/cases.py",
    "_base_/schedules/onecycle.py",
    "_base_/runtime/default.py",
]
data_root = "data/Task04_Hippocampus"
split = dict(val=60, seed=0)
patch_size = [48, 64, 48]
train_dataloader = dict(batch_size=4, sampler=dict(samples_per_epoch=200))
