"""A run as people read it: a numbered timeline in text, a sequence diagram as a picture."""
