"""The service: it wires all the rooms, and nothing imports it."""
