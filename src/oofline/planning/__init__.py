"""Layer 6: what a training will take, before it is begun."""
