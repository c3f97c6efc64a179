"""Boxes around the two parts of the hippocampus (Decathlon Task04), by a RetinaNet from scratch, in 200 steps."""

_base_ = [
    "_base_/models/retinanet_resnet18.py",
    "_base_/datasets/boxes.py",
    "_base_/schedules/cosine.py",
    "_base_/runtime/default.py",
]
data_root = "data/Task04_Hippocampus"
split = dict(val=60, seed=0)
patch_size = None  # whole scans, of about 36 x 50 x 35 voxels
model = dict(network=dict(num_stages=3))  # structures of 14 to 23 voxels: no stage at 1/16
train_dataloader = dict(batch_size=4, sampler=dict(samples_per_epoch=200))
train_cfg = dict(max_epochs=4, val_interval=2)
