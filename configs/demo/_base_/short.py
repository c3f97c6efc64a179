# What both trainings of the demo share: eight short epochs in float32, scored after each; one checkpoint, the last.
_base_ = ["../../_base_/schedules/onecycle.py", "../../_base_/runtime/default.py"]
optim_wrapper = dict(dtype="float32")
train_cfg = dict(max_epochs=8, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1000))
