"""Encoders, pooling heads, dropout and losses."""
