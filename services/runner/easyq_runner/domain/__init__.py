"""What the runner decides. Pure: state, event and time come in, a decision comes out."""
