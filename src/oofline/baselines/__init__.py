"""Experiments without a neural network: LightGBM, ridge and logistic regression on n-grams."""
