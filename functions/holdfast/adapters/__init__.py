"""The edge: AWS, Genesys, the environment, the clock. Each module implements ports of the domain."""
