"""oofline: a text competition from train.csv to a submission.csv whose score can be believed."""

__version__ = "0.1.0"
