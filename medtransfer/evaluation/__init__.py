"""Predictions against references: files are matched, scored, summed up with intervals, compared and shown."""
