"""What every test may use: the engines in tests/postgres.py and tests/rabbitmq.py, and programs over both."""

pytest_plugins = ["tests.postgres", "tests.rabbitmq", "tests.fleet"]
