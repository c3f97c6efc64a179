"""The demonstration: pretrain, transfer, fine-tune, predict and report on the MNI152 brain template."""
