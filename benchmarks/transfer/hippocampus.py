"""Two sources, three policies, 4 to 32 labelled hippocampus cases, 250 steps each; 60 cases are scored."""

_base_ = "../../configs/resunet18_hippocampus.py"
model = dict(network=dict(base_channels=32, stem_channels=32))
split = dict(val=60, seed=0)
patch_size = [32, 48, 32]
train_dataloader = dict(batch_size=2, sampler=dict(samples_per_epoch=100))
train_cfg = dict(max_epochs=5, val_interval=5)
compare = dict(policies=["frozen", "lp_ft", "full"], cases=[4, 8, 16, 32], seeds=[0, 1, 2])
