"""The auth driver `ecr` for Dockhand, which logs in to Amazon ECR with AWS credentials."""
