"""What follows from a result, a silence or a failure. Pure."""
