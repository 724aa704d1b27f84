"""Training: loss, schedule, optimiser, step, and the loop around them."""
