"""What `benchmarks/peers.py` is made of: libraries, workloads, child processes and tables."""
