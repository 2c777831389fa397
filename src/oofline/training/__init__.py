"""Layer 3: training one fold."""
