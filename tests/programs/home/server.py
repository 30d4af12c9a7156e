"""Becomes a session, starts a server of tmux with an editor in it, and ends."""

import subprocess
import time

time.sleep(1.5)
subprocess.run(["tmux", "-L", "row", "-f", "/dev/null", "new-session", "-d", "vim -Nu NONE -n notes"], check=True)
