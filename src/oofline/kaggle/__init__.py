"""Delivery to Kaggle."""
