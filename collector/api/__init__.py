"""Our own HTTP routes, the door in front of them, and the page."""
