# Segmentation data in any layout that is known: Decathlon, nnU-Net raw, a CSV table, BIDS. The content tells which.
# data_root, split, preprocessing and patch_size are stated once, for training, validation and the model's card.
data_root = "data/dataset"
# the dataset's own first fold or column `split`; without them a fifth of the patients validates
split = dict(seed=0)
preprocessing = dict(orientation="RAS", spacing=None, intensity=dict(scheme="zscore"))
patch_size = [96, 96, 96]

train_dataloader = dict(
    batch_size=2,
    num_workers=0,  # prepared volumes are in memory; worker processes cost more than they save on few cores
    sampler=dict(type="CaseSampler", samples_per_epoch=100),
    dataset=dict(type="Cases", part="train", augmentation="light"),
)
val_dataloader = dict(
    batch_size=1,  # whole volumes
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="Cases", part="val"),
)
val_evaluator = dict(type="MeanDice")
