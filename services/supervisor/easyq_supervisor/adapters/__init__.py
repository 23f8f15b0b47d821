"""The supervisor's hold on the machine: processes, files, Docker, packages."""
