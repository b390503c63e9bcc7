"""Places where a model runs: the session protocol, the desktop child process and its runtimes."""
