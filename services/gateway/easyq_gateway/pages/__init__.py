"""The pages: HTML rendered here, from the same use cases as the API. They work without scripts, and live with them."""
