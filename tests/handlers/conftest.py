"""Being here lets the tests in the folders below import this folder's `fake_engine` and `running_server`."""
