"""Language modelling on the competition's own texts, before any label is looked at."""
