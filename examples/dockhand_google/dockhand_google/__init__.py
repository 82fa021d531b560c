"""The auth driver `google`, which logs in to Google Artifact Registry."""
