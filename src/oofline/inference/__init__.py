"""Predicting with models that are stored: no training, no pretrained encoder, no network."""
