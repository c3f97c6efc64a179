"""What trains and how fast: selecting, freezing, parameter groups, low-rank adapters, policies."""
