"""Layer 6: the demo competition, fetched and taken from train.csv to its true score."""
