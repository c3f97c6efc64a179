# Detection data: a segmentation dataset in any layout, whose masks give the boxes, or a JSON list of scans and boxes as
# MONAI has it for LUNA16 (then state box_mode and box_space here, or in the list).
_base_ = "cases.py"
boxes = "class"  # one box for each class of a mask; "component": one for each connected structure
train_dataloader = dict(dataset=dict(type="Boxes"))
val_dataloader = dict(dataset=dict(type="Boxes"))
val_evaluator = dict(type="BoxScores")
