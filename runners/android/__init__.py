"""A phone behind adb: what it is, the files pushed to it, its sessions, its state and the care taken of it."""
