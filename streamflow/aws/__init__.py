"""The one seam to AWS: session and credentials, signing, the fast wire lane, error classes."""
