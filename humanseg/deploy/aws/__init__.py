"""The service on AWS: one CloudFormation template, and the code of `humanseg deploy`."""
