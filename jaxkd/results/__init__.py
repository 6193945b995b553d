"""What comes out of finished runs: the report of one run and the comparison of several, each with its uncertainty."""
