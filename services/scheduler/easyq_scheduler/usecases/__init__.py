"""What the scheduler does: admit, fire, expire."""
