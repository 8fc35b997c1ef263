"""How the demo model is made: the text it learns from, the training and the check."""
