"""The request path: the code that runs inside a TorchServe worker. All of it is packed into the .mar."""
