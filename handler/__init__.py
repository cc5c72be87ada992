"""The way of a photo: what runs inside a TorchServe worker. Goes whole into the .mar."""
