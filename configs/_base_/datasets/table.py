# Classification data from a CSV table with the columns image, label and, if known, patient and split.
# data_root is the table; it, split, preprocessing and patch_size are stated once for training, validation and the card.
data_root = "data/table.csv"
split = None  # the table's own column `split`; without one, a fifth of the patients validates
preprocessing = dict(orientation="RAS", spacing=None, intensity=dict(scheme="zscore"))
patch_size = [64, 64, 64]

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="CaseSampler", samples_per_epoch=200),
    dataset=dict(type="Table", part="train", augmentation="light"),
)
val_dataloader = dict(
    batch_size=1,  # whole volumes
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="Table", part="val"),
)
val_evaluator = dict(type="ClassificationScores")
