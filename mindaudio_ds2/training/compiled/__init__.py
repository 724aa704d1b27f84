"""What is compiled of a training: loss, gradient, optimiser, update, average. It knows no files and no epochs."""
