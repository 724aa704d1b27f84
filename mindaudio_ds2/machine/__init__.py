"""What finds out about the machine and its processes: device, ranks, sums over processes."""
