"""What runs units of work: one process for each device."""
