"""Learning and measuring: labels, training, averages of weights, evaluation."""
