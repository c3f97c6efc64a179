"""Files <-> tensors: the one safe reader of weight files, and the model folder with its card. Nothing in a file runs."""
