"""Lives until it is killed."""

import signal

while True:
    signal.pause()
