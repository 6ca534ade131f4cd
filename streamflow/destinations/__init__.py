"""Where batches go that are given up: SQS, SNS, S3, and the dead letters of the state store."""
