"""Choosing the source before training: how well frozen encoders tell the classes of a task apart."""
