"""From utterances to batches: which go together, how they are padded, how they reach the network."""
