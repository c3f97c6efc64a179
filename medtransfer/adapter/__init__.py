"""Moving weights between networks: what moves, how, and a report of every tensor."""
