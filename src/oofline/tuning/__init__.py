"""Layer 8: settings that are searched for, each trial an experiment of its own."""
