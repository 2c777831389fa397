"""The built kernel, run as Kaggle would: fresh environment, no network, limits."""
