"""Over recorded data: the bundled shop and its player, training, evaluation."""
