"""What runs units of work: a process for each device, or for each unit."""
