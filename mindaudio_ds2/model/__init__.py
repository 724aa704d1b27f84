"""The network: from features to logits."""
