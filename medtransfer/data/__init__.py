"""From the layouts that people have (Decathlon, nnU-Net, BIDS, tables, lists of boxes) to cases, splits and patches."""
