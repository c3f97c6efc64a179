"""The demo's pretraining: which tissue lies at the centre of a patch? A small ResNet-10 on 17 mm patches."""

_base_ = [
    "../_base_/models/resnet18.py",
    "../_base_/datasets/table.py",
    "_base_/short.py",
]
model = dict(network=dict(_delete_=True, type="resnet10", stem_channels=16, base_channels=16, pool_stride=1))
preprocessing = dict(spacing=[2, 2, 2], intensity=dict(scheme="clip", low=0, high=255))
patch_size = None
augmentation = dict(_delete_=True, flips=[0, 1, 2])
train_dataloader = dict(batch_size=32, sampler=dict(samples_per_epoch=1280), dataset=dict(augmentation=augmentation))
val_dataloader = dict(batch_size=60)
param_scheduler = dict(eta_max=4e-3)
