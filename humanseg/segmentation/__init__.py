"""The core: photo -> frame -> network -> mask -> picture. No server, no S3, no HTTP."""
