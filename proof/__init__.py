"""The proof that nothing is lost: faults at every boundary of the deployed application, and what came of them."""
