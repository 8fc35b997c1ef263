"""Being here lets the tests of this folder import its `writers` and `taking_apart`."""
