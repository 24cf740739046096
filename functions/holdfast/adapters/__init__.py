"""The adapters to AWS, Genesys, the environment and the clock: they implement the ports of the domain."""
