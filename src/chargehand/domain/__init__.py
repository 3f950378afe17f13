"""Values that every room speaks. They decide nothing, do no I/O and import no other room."""
