"""From the layouts that people have (Decathlon, CSV) to cases, splits and datasets of patches."""
