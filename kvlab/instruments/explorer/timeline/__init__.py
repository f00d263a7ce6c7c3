"""A run told to people: a numbered timeline, a sequence diagram, the words of both."""
