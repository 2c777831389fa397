"""Layer 7: several settings on the same folds and seeds, side by side."""
