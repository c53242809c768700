"""Training as nodes: data sets, the training of models and of what is added to them, evaluation and export."""
