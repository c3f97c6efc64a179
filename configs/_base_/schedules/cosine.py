# AdamW with a linear warm-up and a cosine down to 0, in mixed precision: the usual schedule of fine-tuning.
# Both parts are shares of the run, whatever its length: max_epochs * samples_per_epoch / batch_size steps.
optim_wrapper = dict(
    type="MixedPrecision",
    dtype="auto",  # bfloat16 where the machine computes in it
    optimizer=dict(type="AdamW", lr=5e-4, weight_decay=1e-2, fused=True),
    clip_grad=dict(max_norm=12.0),
)
param_scheduler = dict(type="WarmupCosine", warmup=0.1, by_epoch=False)
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=5)
