"""The adapters to AWS, Genesys, the environment and the clock. Each module implements ports of the domain."""
