"""Making a model: data, network, loss, training run, evaluation."""
