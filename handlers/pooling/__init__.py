"""What every endpoint that makes numbers of texts has in common; knows no protocol."""
