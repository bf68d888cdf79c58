"""What `scripts/bench` runs: subjects, floors, this program and its peers, measured in turn and reported."""
