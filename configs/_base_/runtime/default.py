# What a run writes and when.
default_scope = "medtransfer"
randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=10),
    checkpoint=dict(type="KeepCheckpoints", interval=1, max_keep_ckpts=2),
)
log_level = "INFO"
