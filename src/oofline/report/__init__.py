"""Layer 5: pictures and tables for people."""
