"""From a trained network to an equal one that runs faster."""
