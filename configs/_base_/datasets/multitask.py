# Several targets of each scan from a CSV table: the column image, and a column for each entry of targets=dict(...).
# Empty cells are targets that are not known. patient and split are used if they are there.
_base_ = "cases.py"
data_root = "data/table.csv"
patch_size = [64, 64, 64]
train_dataloader = dict(
    batch_size=4,
    sampler=dict(samples_per_epoch=200),
    # a dict, of which a config may change single numbers: zoom=0 where sizes are learnt
    dataset=dict(type="MultiTask", augmentation=dict(_delete_=True, preset="light")),
)
val_dataloader = dict(dataset=dict(type="MultiTask"))
val_evaluator = dict(type="MultiTaskScores")
