"""A line of Python that ends the process which asks the network for anything."""

# An audit hook cannot be removed, and sees every look-up of a name and every connection made from Python.
REFUSE = """
import os, sys
def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        os.write(2, f"the network was used: {event} {arguments[-1]!r}".encode())
        os._exit(99)
sys.addaudithook(refuse)
"""
