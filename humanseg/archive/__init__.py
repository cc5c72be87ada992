"""The record and its life: spool on local disk, shipper to S3, and the readers of what was archived."""
