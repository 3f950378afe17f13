"""The agents we ship. Each is a package with `build(options) -> Agent`; none imports another."""
