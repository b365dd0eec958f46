"""Whether what was found would have been found in noise, too: overfitting, superiority, walk-forward, random entries."""
