"""The service on AWS: one CloudFormation template, and what `humanseg deploy` does with it."""
