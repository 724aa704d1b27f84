"""From the network's log probabilities to text, and how many errors that text holds."""
