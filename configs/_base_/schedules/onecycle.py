# AdamW under a one-cycle learning rate in mixed precision.
# An epoch is samples_per_epoch patches of the sampler, so steps = max_epochs * samples_per_epoch / batch_size.
optim_wrapper = dict(
    type="MixedPrecision",
    dtype="auto",  # bfloat16 where the machine computes in it
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=1e-2, fused=True),
    clip_grad=dict(max_norm=12.0),
)
param_scheduler = dict(type="OneCycle", eta_max=2e-3, by_epoch=False)
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=5)
