"""Scores as pure functions of arrays: overlap, surfaces, lesions, probabilities; and the rules for empty masks."""
