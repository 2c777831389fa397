"""From the files of a competition to checked rows, folds, tokens and batches."""
