"""The report: every figure of a folder of results as one HTML file that needs no network, no server and no library."""
