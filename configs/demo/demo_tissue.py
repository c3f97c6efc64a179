"""The demo's target: CSF, grey and white matter from a few labelled slices, with a ResUNet-10 from scratch."""

_base_ = [
    "../_base_/models/resunet18.py",
    "../_base_/datasets/cases.py",
    "_base_/short.py",
]
encoder = dict(stem_channels=16, base_channels=16, pool_stride=1)
model = dict(network=dict(_delete_=True, type="resunet10", full_resolution_skip=16, **encoder))
preprocessing = dict(spacing=[2, 2, 2], intensity=dict(scheme="clip", low=0, high=255))
split = dict(train=["labelled_slices"], val=["validation_slices"])
patch_size = [32, 32, 8]
augmentation = dict(_delete_=True, foreground=0.9)
train_dataloader = dict(batch_size=4, sampler=dict(samples_per_epoch=80), dataset=dict(augmentation=augmentation))
param_scheduler = dict(eta_max=5e-3)
