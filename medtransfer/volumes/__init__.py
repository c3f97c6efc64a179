"""Scans to tensors and back with exact geometry; the only room that knows the order of axes."""
