"""One trace from a request through every service to the container's end. Imports nothing by itself."""
