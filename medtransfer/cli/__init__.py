"""The command line: parse, call, print. One small module a command; rooms are imported when their command runs."""
