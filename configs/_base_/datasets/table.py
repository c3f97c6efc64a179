# Classification data from a CSV table with the columns image, label and, if known, patient and split.
_base_ = "cases.py"
data_root = "data/table.csv"
patch_size = [64, 64, 64]
train_dataloader = dict(batch_size=4, sampler=dict(samples_per_epoch=200), dataset=dict(type="Table"))
val_dataloader = dict(dataset=dict(type="Table"))
val_evaluator = dict(type="ClassificationScores")
