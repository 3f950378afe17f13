"""The path of a request: gather facts, call one pure function, write."""
