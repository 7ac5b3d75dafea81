"""The headless core of PianistID Lab."""
