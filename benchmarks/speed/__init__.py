"""Speed and memory beside what people use, as one table of ratios: ``python -m benchmarks.speed``."""
