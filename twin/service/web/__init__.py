"""The operator's page: what the twin has to say, for people and for programs."""
