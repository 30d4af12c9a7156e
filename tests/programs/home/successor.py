"""Becomes a session, starts its successor, and ends."""

import subprocess
import time

time.sleep(1.5)
subprocess.Popen(["python3", "tool.py"])
