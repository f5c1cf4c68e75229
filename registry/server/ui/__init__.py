"""The web pages of `turnout server`: rendered here, complete without JavaScript, and quicker with it."""
