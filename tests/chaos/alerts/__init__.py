"""Alert rules against what a system really showed while parts of it were broken."""
