"""Files <-> tensors: the one safe reader of weight files, the model folder and its card. Nothing in a file runs."""
