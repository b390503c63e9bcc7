"""A stand-in for a phone: what adb sees of one, on loopback, with faults on demand. Tests only."""

from standin.device import StandIn
from standin.faults import Fault, sequence
from standin.server import AdbServer, find_adb

__all__ = ["AdbServer", "Fault", "StandIn", "find_adb", "sequence"]
