"""Networks as files that run without medtransfer: ONNX, torch.export, TorchScript, a MONAI bundle."""
