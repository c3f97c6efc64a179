# What a run writes and when.
default_scope = "medtransfer"
randomness = dict(seed=0)
# what the card of best/ states; description, intended_use, out_of_scope, training_data and limitations too
card = dict(license="")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=10),
    checkpoint=dict(type="KeepCheckpoints", interval=1, max_keep_ckpts=2),
)
log_level = "INFO"
