"""Metrics, decisions, out-of-fold collection, intervals, comparison and ensembles."""
